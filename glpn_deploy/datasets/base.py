"""What every data set gives: samples of image and depth, and the base of those that are pairs of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from glpn_deploy.datasets.files import read_depth, read_image
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError
from glpn_deploy.reading import is_regular


@dataclasses.dataclass(frozen=True)
class DepthSample:
    """One image and its ground truth.

    Attributes:
        image: RGB, uint8 (H, W, 3).
        depth: Metres, float32 (H, W); 0 where there is no measurement.
        name: The sample's name within its data set, for messages and output files.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    name: str


class DepthDataset(Protocol):
    """A data set, as evaluation and training see it; samples are read when they are asked for.

    Attributes:
        name: Short name ("nyu"), for reports.
        max_depth: Ground truth at or above this [m] does not count in the data set's protocol.
        crop: The crop its protocol evaluates in; ``None`` for the whole image.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def max_depth(self) -> float: ...  # noqa: D102

    @property
    def crop(self) -> Crop | None: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> DepthSample: ...


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two files of one sample.

    Attributes:
        where: The list and line that name the files ("test.txt, line 3"); empty without a list.
    """

    image: Path
    depth: Path
    name: str
    where: str = ""


class PairDataset:
    """A data set of image and depth files, read one at a time as they are asked for.

    Attributes:
        name: Short name of the data set.
        depth_scale: Units per metre of depth PNGs (1000 for millimetres); ``None`` where all depth is .npy.
        max_depth: Ground truth at or above this [m] does not count.
        crop: The crop that the data set's protocol evaluates in.
    """

    name: str
    depth_scale: float | None = None
    max_depth: float = 10.0
    crop: Crop | None = None

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = tuple(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[DepthSample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> DepthSample:
        """Reads one sample.

        Raises:
            DatasetError: A file is missing, damaged or of the wrong kind, or the two differ in size.
            IndexError: There is no such sample.
        """
        pair = self.pairs[index]
        image = read_image(pair.image, pair.where)
        depth = read_depth(pair.depth, self.depth_scale, pair.where)
        if image.shape[:2] != depth.shape:
            raise DatasetError(
                f"{pair.where + ': ' if pair.where else ''}{pair.image} is {_size(image)} and "
                f"{pair.depth} is {_size(depth)}",
                expected="an image and a depth map of the same size",
            )
        return self.prepare(DepthSample(image, depth, pair.name), pair)

    def prepare(self, sample: DepthSample, pair: Pair) -> DepthSample:
        """What a data set does to every sample after reading it; here nothing."""
        return sample

    def check(self) -> None:
        """Looks whether every file is there, without reading any.

        Raises:
            DatasetError: Files are missing; the message names the first and counts them all.
        """
        missing = [
            (path, pair) for pair in self.pairs for path in (pair.image, pair.depth) if not is_regular(path)
        ]
        if missing:
            path, pair = missing[0]
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise DatasetError(
                f"{pair.where + ': ' if pair.where else ''}there is no file {path}{more}",
                fix="check the folder that the paths start from",
            )


def _size(array: npt.NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
