"""FrameOptions and VideoOptions: which frames, and what is made of them. Light: commands read them."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated

from glpn_deploy.errors import InputError
from glpn_deploy.options import Option, check_options

_option = partial(Option, panel="Videos")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Which frames of a source are wanted, and how long a camera is waited for.

    Times of a file are its own [s]; of a camera they count from its first frame.

    Raises:
        InputError: A number is out of range.
    """

    every: Annotated[int, _option("Clips: take every Nth frame.", least=1)] = 1
    start: Annotated[float, _option("Clips: leave out what is before this time [s].", least=0)] = 0.0
    end: Annotated[
        float | None, _option("Leave out what is at or after this time [s] [default: none].", above=0)
    ] = None
    fps: Annotated[
        float | None,
        _option(
            "At most this many frames a second [default: all]; the rate of frames:FOLDER [default: 30].",
            above=0,
            most=1000,
        ),
    ] = None
    timeout: Annotated[
        float, _option("Cameras: how long one may take to connect, and to give a frame [s].", above=0)
    ] = 5.0
    reconnects: Annotated[
        int, _option("Cameras: how often in a row one that died or froze is connected to again.", least=0)
    ] = 5

    def __post_init__(self) -> None:
        check_options(self)
        if self.end is not None and self.end <= self.start:
            raise InputError(
                f"an end at {self.end:g} s", expected=f"a time after the start at {self.start:g} s"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What shall be made of a clip's depth.

    Attributes:
        save: Some of `outputs.KINDS`.
        max_m: Cold end of the colours [m]; None takes the network's.
        show: For the command, which makes the page that `predicting.predict_video` takes.
    """

    save: tuple[str, ...] = ("mm", "color")
    max_m: float | None = None
    steady: Annotated[bool, _option("Take jumps of the depth's scale from frame to frame out.")] = False
    show: Annotated[
        bool, _option("Also show the newest frame on a page that this machine's browser alone can open.")
    ] = False
