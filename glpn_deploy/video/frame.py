"""What every source of frames gives: frames with timestamps."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Generator
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self


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


class FrameSource(abc.ABC):
    """Frames in order, one at a time. Use it as a context manager, or call `close`.

    Attributes:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
