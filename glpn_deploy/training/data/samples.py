"""Training samples: which one a step sees, how it is augmented, and the loader that brings batches."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from glpn_deploy.datasets.base import DepthDataset, DepthSample
from glpn_deploy.errors import BackendError, GlpnError, InputError, first_line
from glpn_deploy.training.data.augment import random_crop, random_flip, vertical_cutdepth
from glpn_deploy.training.options import CutDepthScaling

Request: TypeAlias = tuple[int, int]
"""A sample's epoch and its index in the data set."""
Arrays: TypeAlias = "tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]"
_MIN_DEPTH = 1e-3
_CALIBRATION = 40  # batches: the demo network's statistics are then known to a percent
_ORDER, _SAMPLE = 1, 2  # keep the random streams of order and augmentation apart


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to a sample on its way into a batch.

    Attributes:
        crop: Height and width [px] of the random crop.
        flip: Share of mirrored samples.
        cutdepth: Share of samples with Vertical CutDepth.
    """

    crop: tuple[int, int]
    flip: float
    cutdepth: float
    scaling: CutDepthScaling


class TrainSamples(Dataset["Arrays | GlpnError"]):
    """Augmented samples by epoch and index, the same whenever they are asked for."""

    def __init__(self, data: DepthDataset, augmentation: Augmentation, seed: int) -> None:
        self.data, self.augmentation, self.seed = data, augmentation, seed

    def __getitem__(self, request: Request) -> Arrays | GlpnError:
        """RGB uint8 and depth [m] with 0 where it does not count; or why the sample cannot be read.

        The error is given, not raised: torch would wrap one raised in a worker process in its traceback.
        """
        epoch, index = request
        try:
            return self._augmented(
                self.data[index], np.random.default_rng([self.seed, _SAMPLE, epoch, index])
            )
        except GlpnError as error:
            return error

    def _augmented(self, sample: DepthSample, rng: np.random.Generator) -> Arrays:
        do, max_depth = self.augmentation, self.data.max_depth
        image, depth = sample.image, sample.depth
        pasted, a, b = rng.random(3)
        if pasted < do.cutdepth:
            image = vertical_cutdepth(image, depth, a, b, max_depth=max_depth, scaling=do.scaling)
        image, depth = random_flip(image, depth, do.flip, rng)
        image, depth = random_crop(image, depth, do.crop, rng, sample.name)
        counts = (depth > _MIN_DEPTH) & (depth <= max_depth)
        return np.ascontiguousarray(image), np.where(counts, depth, np.float32(0.0))


class StepBatches(Sampler[list[Request]]):
    """The batches of every step from ``start`` on; the order of an epoch depends on its number alone.

    Args:
        count: Samples in the data set; what is left after the last whole batch waits for another epoch.
        start: First step to give.
    """

    def __init__(self, count: int, batch: int, epochs: int, start: int, seed: int) -> None:
        if count < batch:
            raise InputError(
                f"the data set has {count} samples and a batch takes {batch}", fix="choose a smaller --batch"
            )
        self.count, self.batch, self.start, self.seed = count, batch, start, seed
        self.epoch_steps = count // batch
        self.total = epochs * self.epoch_steps

    def __iter__(self) -> Iterator[list[Request]]:
        epoch, order = -1, np.arange(self.count)
        for step in range(self.start, self.total):
            if step // self.epoch_steps != epoch:
                epoch = step // self.epoch_steps
                order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.count)
            begin = step % self.epoch_steps * self.batch
            yield [(epoch, int(index)) for index in order[begin : begin + self.batch]]

    def __len__(self) -> int:
        return self.total - self.start


def make_loader(samples: TrainSamples, batches: StepBatches, workers: int, *, pin: bool) -> DataLoader[Any]:
    """A loader over all steps that are left; iterate it through `iterate`."""
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_leave_signals_alone if workers else None,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
    )


def iterate(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of RGB (B, H, W, 3) uint8 and depth (B, H, W) float32 [m].

    A process that was killed is told when the loader waits for a batch.
    """
    with _same_child_handler():
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, GlpnError):
            raise batch
        yield batch


@contextlib.contextmanager
def _same_child_handler() -> Iterator[None]:
    """Keeps SIGCHLD's handler: torch's raises wherever the program is, for every process that ends."""
    handler = None
    if os.name == "posix" and threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGCHLD)
    yield
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)


def calibration_images(samples: TrainSamples, batch: int) -> Iterator[Tensor]:
    """Up to 40 batches of RGB (B, H, W, 3) uint8, the same at every call, for `Learner.calibrate`."""
    for first in range(0, len(samples.data) - batch + 1, batch)[:_CALIBRATION]:
        collated = _collate([samples[0, index] for index in range(first, first + batch)])
        if isinstance(collated, GlpnError):
            raise collated
        yield collated[0]


@contextlib.contextmanager
def reader_errors() -> Iterator[None]:
    """Says in a sentence that a worker process was killed."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise BackendError(
            f"a process that reads samples ended ({first_line(error)})",
            fix="if memory ran out, use fewer --workers; the same command goes on from the last state",
        ) from None


def _collate(items: list[Arrays | GlpnError]) -> tuple[Tensor, Tensor] | GlpnError:
    images, depths = [], []
    for item in items:
        if isinstance(item, GlpnError):
            return item
        images.append(torch.from_numpy(item[0]))
        depths.append(torch.from_numpy(item[1]))
    return torch.stack(images), torch.stack(depths)


def _leave_signals_alone(_: int) -> None:
    """Ctrl-C reaches the whole process group; the trainer alone decides when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
