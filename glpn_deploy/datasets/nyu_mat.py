"""NYU Depth V2's labelled set, ``nyu_depth_v2_labeled.mat``: MATLAB 7.3, which is HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.datasets.files import read_lines
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError
from glpn_deploy.images.options import MAX_PIXELS
from glpn_deploy.reading import is_regular

_INDEX_FORM = "one index a line, from 1 as in splits.mat"


class NyuLabelled:
    """The labelled images (1449 as published) with depth in metres, 480×640.

    MATLAB stores columns first, so HDF5 shows ``images`` as (N, 3, W, H) uint8 and ``depths`` and
    ``rawDepths`` as (N, W, H) floats; here they come out upright. The published test split is 654 of these
    images. It is in ``splits.mat``, an older format that h5py does not read: write it out once with
    ``numpy.savetxt("test.txt", scipy.io.loadmat("splits.mat")["testNdxs"], "%d")``.

    Args:
        indices: A text file with one index from 1 a line; ``None`` takes every image.
        as_released: Take the depth as measured (``rawDepths``, 0 where nothing was measured) and black out
            the image's white border (outside rows 7:474, columns 7:632), as the script did that wrote the
            PNG test set of BTS and GLPDepth. Otherwise ``depths``, where holes are filled in.

    Raises:
        DatasetError: A file is missing, damaged or of another kind, or an index is not in it.
    """

    name, max_depth = "nyu", 10.0
    crop: Crop | None = "nyu"

    def __init__(
        self, path: str | Path, indices: str | Path | None = None, *, as_released: bool = False
    ) -> None:
        self.path, self.as_released = Path(path), as_released
        self._depth_key = "rawDepths" if as_released else "depths"
        with self._open() as file:
            images, depths = file["images"].shape, file[self._depth_key].shape
            kinds = file["images"].dtype.str, file[self._depth_key].dtype.kind
        if images is None or len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]):
            raise DatasetError(
                f"{self.path} has images of shape {images} and {self._depth_key} of shape {depths}",
                expected="(N, 3, W, H) and (N, W, H)",
            )
        if kinds != ("|u1", "f") or not 0 < images[2] * images[3] <= MAX_PIXELS:
            raise DatasetError(
                f"{self.path} has images of type {kinds[0]}, {images[2]}x{images[3]} px, and depth of kind "
                f"{kinds[1]!r}",
                expected="uint8 images of a size within reason, and floats",
            )
        count = int(images[0])
        self.indices = list(range(count)) if indices is None else _read_indices(Path(indices), count)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[DepthSample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> DepthSample:
        """Reads one sample; the file is opened for each, so that worker processes can share the data set."""
        at = self.indices[index]
        with self._open() as file:
            try:
                image, depth = file["images"][at], file[self._depth_key][at]
            except Exception as error:  # HDF5's filters raise several kinds
                raise DatasetError(f"{self.path}: image {at + 1} cannot be read ({error})") from None
        image = np.ascontiguousarray(image.transpose(2, 1, 0), dtype=np.uint8)
        depth = np.ascontiguousarray(depth.T, dtype=np.float32)
        depth[~((depth > 0) & (depth < np.inf))] = 0
        if self.as_released:
            inside = np.zeros(depth.shape, dtype=np.bool_)
            inside[7:474, 7:632] = True
            image[~inside] = 0
        return DepthSample(image, depth, f"{at + 1:05d}")

    def check(self) -> None:
        """Nothing is left to look at: opening the file has checked that the arrays are there and fit."""

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if not is_regular(self.path):
            raise DatasetError(f"there is no file {self.path}", expected="nyu_depth_v2_labeled.mat")
        try:
            file = h5py.File(self.path, "r")
        except Exception as error:  # as below
            raise DatasetError(
                f"{self.path} cannot be opened ({error})",
                expected="nyu_depth_v2_labeled.mat, MATLAB 7.3",
                fix="where it is truncated, fetch it again",
            ) from None
        with file:
            for key in ("images", self._depth_key):
                if not _is_plain(file, key):
                    raise DatasetError(
                        f"{self.path} has no array {key!r}", expected="nyu_depth_v2_labeled.mat"
                    )
            yield file


def _is_plain(file: Any, key: str) -> bool:
    """Whether a name is an array within this file: links and external arrays open what they name."""
    try:
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            return False
        array = file[key]
        return isinstance(array, h5py.Dataset) and not array.external and not array.is_virtual
    except Exception:  # a damaged file raises KeyError, RuntimeError, ValueError ...
        return False


def _read_indices(path: Path, count: int) -> list[int]:
    """Indices from 0, from a text file of indices from 1."""
    if path.suffix.lower() == ".mat":
        raise DatasetError(
            f"{path} is MATLAB's older format",
            expected=f"a text file with {_INDEX_FORM}",
            fix=f"numpy.savetxt('test.txt', scipy.io.loadmat('{path.name}')['testNdxs'], '%d') writes it",
        )
    indices = []
    for number, fields in read_lines(path, _INDEX_FORM):
        text = " ".join(fields)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= count:
            raise DatasetError(f"{path}, line {number} is {text!r}", expected=f"an index from 1 to {count}")
        indices.append(int(text) - 1)
    return indices
