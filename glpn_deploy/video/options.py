"""FrameOptions and VideoOptions: which frames, and what is made of them. Light: commands read them."""

from __future__ import annotations

import dataclasses
import math

from glpn_deploy.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Which frames of a source are wanted, and how long a camera is waited for.

    Attributes:
        every: Take every so-manieth frame of a file.
        start: Leave out what is before this time of a file [s].
        end: Leave out what is at or after this time [s]; of a camera, counted from its first frame.
        fps: At most so many frames a second; None takes all. For a folder it is the rate of its frames, 30
            where nothing is said.
        timeout: How long a camera may take to connect, and to give its next frame [s].
        reconnects: How often in a row a camera that died or froze is connected to again.

    Raises:
        InputError: A number is out of range.
    """

    every: int = 1
    start: float = 0.0
    end: float | None = None
    fps: float | None = None
    timeout: float = 5.0
    reconnects: int = 5

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"every {self.every} frames", expected="at least 1")
        if not 0 <= self.start < math.inf:
            raise InputError(f"a start at {self.start} s", expected="0 or more")
        if self.end is not None and not self.start < self.end < math.inf:
            raise InputError(
                f"an end at {self.end:g} s", expected=f"a time after the start at {self.start:g} s"
            )
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"{self.fps:g} frames a second", expected="above 0 and at most 1000")
        if not 0 < self.timeout < math.inf or self.reconnects < 0:
            raise InputError(
                f"a timeout of {self.timeout:g} s and {self.reconnects} reconnects",
                expected="seconds above 0 and a number of at least 0",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What shall be made of a clip's depth.

    Attributes:
        save: Some of `outputs.KINDS`.
        max_m: Cold end of the colours [m]; None takes the network's.
        steady: Take jumps of the depth's scale out.
    """

    save: tuple[str, ...] = ("mm", "color")
    max_m: float | None = None
    steady: bool = False
