"""The data sets of a run: what it trains on and what it validates on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from glpn_deploy.datasets.base import DepthDataset, DepthSample
from glpn_deploy.datasets.options import DatasetOptions
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError
from glpn_deploy.training.data.room_cache import cached_rooms
from glpn_deploy.training.options import TrainOptions

HELD_OUT = 20
"""Of a folder without validation pairs of its own, every such pair is held out."""
_CROPS = {"nyu": (448, 576), "kitti": (352, 704)}


@dataclasses.dataclass
class _Derived:
    """What is made of another data set, under its name and protocol."""

    whole: DepthDataset

    @property
    def name(self) -> str:
        """The whole's."""
        return self.whole.name

    @property
    def max_depth(self) -> float:
        """The whole's [m]."""
        return self.whole.max_depth

    @property
    def crop(self) -> Crop | None:
        """The whole's."""
        return self.whole.crop


@dataclasses.dataclass
class Part(_Derived):
    """The samples of a data set at some indices."""

    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> DepthSample:
        return self.whole[self.indices[index]]


@dataclasses.dataclass
class Shrunk(_Derived):
    """A data set at a fraction of its size: the image averaged over squares, the depth of their corners.

    Attributes:
        factor: Side of the squares [px].
    """

    factor: int

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> DepthSample:
        sample, n = self.whole[index], self.factor
        height, width = (side // n for side in sample.depth.shape)
        squares = sample.image[: height * n, : width * n].reshape(height, n, width, n, 3)
        # Adding whole planes is four times as fast as numpy's mean over two axes of a few pixels.
        total = np.zeros((height, width, 3), np.uint32)
        for row in range(n):
            for column in range(n):
                total += squares[:, row, :, column]
        image = ((total + n * n // 2) // (n * n)).astype(np.uint8)
        return DepthSample(image, sample.depth[: height * n : n, : width * n : n], sample.name)


def open_data(options: TrainOptions) -> tuple[DepthDataset, DepthDataset]:
    """Opens the training and the validation samples."""
    if options.dataset == "rooms":
        train, val = _rooms(options)
    elif options.dataset == "folder":
        train, val = _folder(options)
    else:
        root = options.depth_root  # registry and options both know it as kitti's alone
        train, val = (
            open_dataset(
                options.dataset,
                options.path,
                DatasetOptions(split=split, file_list=file_list, depth_root=root),
            )
            for split, file_list in (("train", options.train_list), ("test", options.val_list))
        )
    if options.shrink > 1:
        train, val = Shrunk(train, options.shrink), Shrunk(val, options.shrink)
    for what, data in (("training", train), ("validation", val)):
        if not len(data):
            raise DatasetError(f"there is no {what} sample in {options.path}", expected="at least one")
    return train, val


def crop_size(options: TrainOptions, train: DepthDataset) -> tuple[int, int]:
    """Height and width [px] of the random crop: as said, the paper's, or the first image's own."""
    if options.crop is not None:
        return options.crop
    if options.dataset in _CROPS:
        return _CROPS[options.dataset]
    sample = train[0]
    height, width = (side // 32 * 32 for side in sample.depth.shape)
    if not height or not width:
        raise DatasetError(
            f"{sample.name} is {sample.depth.shape[1]}x{sample.depth.shape[0]}", expected="32x32"
        )
    return height, width


def _rooms(options: TrainOptions) -> tuple[DepthDataset, DepthDataset]:
    height, width = options.size
    train = RenderedRooms("train", options.rooms, height=height, width=width)
    val = RenderedRooms("val", options.val_rooms, height=height, width=width)
    if options.cache is None:
        return train, val
    workers = os.cpu_count() or 1
    return (
        cached_rooms(train, options.cache, workers=workers),
        cached_rooms(val, options.cache, workers=workers),
    )


def _folder(options: TrainOptions) -> tuple[DepthDataset, DepthDataset]:
    scale = DatasetOptions(depth_scale=options.depth_scale)
    train = open_dataset("folder", options.path, scale)
    if options.val_path is not None:
        return train, open_dataset("folder", options.val_path, scale)
    held_out = range(0, len(train), HELD_OUT)
    rest = [index for index in range(len(train)) if index % HELD_OUT]
    return Part(train, rest), Part(train, held_out)
