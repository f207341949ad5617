"""What every source of frames has in common: frames with timestamps, and which of them are wanted."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Generator
from fractions import Fraction
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a clip or a camera.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        pts: The presentation timestamp, in units of ``time_base``: the clip's own; of a camera, since its
            first frame.
        time_base: Seconds a unit of ``pts``, exactly.
        index: The frame's number, from 0, among those given; of a camera, dropped ones are counted too.
        arrived: `time.monotonic` when a camera's frame came [s]; None for files.
    """

    image: NDArray[np.uint8]
    pts: int
    time_base: Fraction
    index: int
    arrived: float | None = None

    @property
    def time(self) -> float:
        """The timestamp [s]."""
        return float(self.pts * self.time_base)


@dataclasses.dataclass(frozen=True)
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


class FrameSource(abc.ABC):
    """Frames in order, one at a time. Use it as a context manager, or call `close`.

    Attributes:
        name: What was opened, for messages.
        live: The frames come by themselves and are dropped while nobody takes them.
        total: About how many frames there are; None where that is not known.
        dropped: How many were dropped so far because newer ones had come.
    """

    name: str
    live: bool = False
    total: int | None = None
    dropped: int = 0

    @abc.abstractmethod
    def __iter__(self) -> Generator[Frame, None, None]:
        """Yields the frames.

        Raises:
            VideoError: The source ends before its time: it is cut, damaged, or does not answer any more.
        """

    def close(self) -> None:  # noqa: B027 - a folder has nothing to close
        """Ends the frames; one that is being waited for comes no more."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
