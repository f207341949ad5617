"""TrainOptions: everything a training run is told, checked before anything is read or written."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

from glpn_deploy.errors import InputError

DataKind = Literal["nyu", "kitti", "folder", "rooms"]
Schedule = Literal["paper", "cosine"]
OptimizerName = Literal["adam", "adamw"]
LossName = Literal["silog", "log-l1"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda"]
CutDepthScaling = Literal["unit", "as-released"]

_CHOICES: dict[str, Any] = {
    "dataset": DataKind,
    "schedule": Schedule,
    "optimizer": OptimizerName,
    "loss": LossName,
    "precision": Precision,
    "device": DeviceName,
    "cutdepth_scaling": CutDepthScaling,
}
_FREE_ON_RESUME = ("out", "fresh", "device", "workers", "threads", "cache", "save_every", "offline")
"""What may differ when a run goes on: none of it moves the loss (another device only by rounding)."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What a training run is told; the defaults are the paper's (section 4.2 and the authors' code).

    Attributes:
        out: Folder for ``last/`` (the state to go on from), ``best/``, ``final/`` and ``log.csv``.
        dataset: ``nyu``, ``kitti``, ``folder`` or ``rooms``.
        path: Where the data set lies; none for rooms, which are rendered.
        train_list: File list of the training samples, where not the data set's usual one.
        val_list: The same for the validation samples.
        val_path: ``folder``: another such folder to validate on; without it every 20th pair is held out.
        depth_root: ``kitti``: folder that the depth paths start from.
        depth_scale: ``folder``: units per metre of depth PNGs.
        rooms: Training rooms to render.
        val_rooms: Validation rooms to render.
        size: ``rooms``: height and width [px] to render at.
        shrink: ``rooms`` and ``folder``: train and validate at one ``shrink``-th of the images' sides.
        cache: ``rooms``: folder to keep the rendered rooms in; without one each epoch renders anew.
        start: ``scratch``, a GLPN checkpoint, or a MiT/SegFormer encoder in HF's format.
        config: ``scratch``: ``demo``, ``mit-b0`` … ``mit-b5``, or a ``config.json``.
        max_depth: Depth [m] at which the network saturates; the data set's own by default.
        revision: Hub revision of ``start``.
        offline: Take hub ids from the cache only.
        epochs: Passes over the training samples.
        batch: Samples a step.
        crop: Height and width [px] of the random crop; 448×576 for nyu, 352×704 for kitti, else the image.
        lr: Highest learning rate.
        schedule: ``paper`` or ``cosine``; see `glpn_deploy.training.schedule`.
        optimizer: ``adam`` or ``adamw``.
        loss: ``silog``, the paper's, or ``log-l1``; see `glpn_deploy.training.learner.log_l1_loss`.
        weight_decay: Of the optimiser; 0 in the paper.
        clip: Largest norm of the gradient; none by default.
        ema: Decay of a moving average of the weights, which is then validated and written; none by default.
        drop_path: Stochastic depth, instead of the start's own rate.
        cutdepth: Share of the samples that Vertical CutDepth changes.
        cutdepth_scaling: How depth is pasted; see `glpn_deploy.training.data.augment.vertical_cutdepth`.
        flip: Share of the samples that are mirrored.
        colour: Share of the samples that each of brightness/contrast, gamma and hue changes.
        precision: ``auto`` is bf16 or fp16 where a GPU has it, else fp32.
        device: ``auto`` takes the GPU where there is one.
        seed: Of initial weights, order and augmentation.
        workers: Processes that read (or render) samples; 0 reads in the training process.
        threads: Threads of a CPU operator; torch's choice by default.
        save_every: Steps between states; one is also kept at each epoch's end.
        fresh: Begin anew where ``out`` holds a state.

    Raises:
        InputError: A value is out of range.
    """

    out: Path
    dataset: DataKind
    path: Path | None = None
    train_list: Path | None = None
    val_list: Path | None = None
    val_path: Path | None = None
    depth_root: Path | None = None
    depth_scale: float | None = None
    rooms: int = 20_000
    val_rooms: int = 200
    size: tuple[int, int] = (192, 256)
    shrink: int = 1
    cache: Path | None = None
    start: str = "scratch"
    config: str = "mit-b4"
    max_depth: float | None = None
    revision: str | None = None
    offline: bool = False
    epochs: int = 25
    batch: int = 12
    crop: tuple[int, int] | None = None
    lr: float = 1e-4
    schedule: Schedule = "paper"
    optimizer: OptimizerName = "adam"
    loss: LossName = "silog"
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float | None = None
    drop_path: float | None = None
    cutdepth: float = 0.25
    cutdepth_scaling: CutDepthScaling = "unit"
    flip: float = 0.5
    colour: float = 0.5
    precision: Precision = "auto"
    device: DeviceName = "auto"
    seed: int = 0
    workers: int = 2
    threads: int | None = None
    save_every: int = 500
    fresh: bool = False

    def __post_init__(self) -> None:
        for name, choice in _CHOICES.items():
            if getattr(self, name) not in get_args(choice):
                raise _bad(name, getattr(self, name), f"one of {', '.join(get_args(choice))}")
        for name in ("epochs", "rooms", "val_rooms", "shrink", "save_every"):
            _whole(name, getattr(self, name), 1)
        _whole("batch", self.batch, 2)  # a batch norm learns nothing from one sample
        _whole("workers", self.workers, 0)
        _whole("seed", self.seed, 0)
        if self.threads is not None:
            _whole("threads", self.threads, 1)
        for name in ("lr", "clip", "max_depth"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise _bad(name, value, "a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise _bad("weight_decay", self.weight_decay, "0 or more")
        for name in ("cutdepth", "flip", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise _bad(name, getattr(self, name), "a share from 0 to 1")
        for name in ("ema", "drop_path"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise _bad(name, value, "a number from 0 up to, not including, 1")
        for name in ("size", "crop"):
            for side in getattr(self, name) or ():
                if side < 32 or side % 32:
                    raise _bad(name, "x".join(map(str, getattr(self, name))), "multiples of 32 px")
        if self.dataset == "rooms" and self.path is not None:
            raise _bad("path", str(self.path), "none for rooms: they are rendered")
        if self.dataset != "rooms" and self.path is None:
            raise InputError(f"the {self.dataset} data set has no path", expected="the folder it lies in")
        if self.dataset in ("nyu", "kitti") and self.shrink != 1:
            raise _bad("shrink", self.shrink, f"1: the protocol of {self.dataset} counts in its own pixels")
        if self.dataset != "rooms" and self.cache is not None:
            raise _bad("cache", str(self.cache), "none: only rooms are rendered into a cache")

    def identity(self) -> dict[str, Any]:
        """What decides the loss curve, as plain values: a run goes on only where all of it is the same."""
        values = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in values.items() if name not in _FREE_ON_RESUME}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    return list(value) if isinstance(value, tuple) else value


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _bad(name, value, f"a whole number of at least {least}")


def _bad(name: str, value: object, expected: str) -> InputError:
    return InputError(f"the option {name} is {value!r}", expected=expected)
