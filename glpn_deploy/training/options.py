"""TrainOptions: everything a training run is told, checked before anything is read or written."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, SIZE, DeviceOption, Offline, Option, bad_option, check_options

DataKind = Literal["nyu", "kitti", "folder", "rooms"]
Schedule = Literal["paper", "cosine"]
OptimizerName = Literal["adam", "adamw"]
LossName = Literal["silog", "log-l1"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
CutDepthScaling = Literal["unit", "as-released"]

_data, _start = partial(Option, panel="Data"), partial(Option, panel="Start")
_optimizer, _advanced = partial(Option, panel="Optimisation"), partial(Option, panel=ADVANCED)
_FREE_ON_RESUME = ("out", "fresh", "device", "workers", "threads", "cache", "save_every", "offline")
"""What may differ when a run goes on: none of it moves the loss (another device only by rounding)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a training run is told; the defaults are the paper's (section 4.2 and the authors' code)."""

    dataset: Annotated[
        DataKind,
        Option(
            "nyu (NYU Depth V2), kitti (Eigen's split), folder (images/ and depth/), rooms (rendered).",
            argument=True,
        ),
    ]
    out: Annotated[
        Path, Option("Folder for last/ (the state), best/ and final/ (checkpoints), log.csv.", argument=True)
    ]
    path: Annotated[
        Path | None, _data("Where the data set lies.", names=("--data-path",), former=("--path",))
    ] = None
    train_list: Annotated[Path | None, _advanced("File list of the training samples.")] = None
    val_list: Annotated[Path | None, _advanced("File list of the validation samples.")] = None
    val_path: Annotated[
        Path | None,
        _advanced("folder: another such folder to validate on [default: every 20th pair is held out]."),
    ] = None
    depth_root: Annotated[Path | None, _advanced("kitti: where the depth paths start from.")] = None
    depth_scale: Annotated[
        float | None, _advanced("folder: units per metre of depth PNGs (1000: millimetres).")
    ] = None
    rooms: Annotated[int, _data("rooms: how many to train on.", least=1)] = 20_000
    val_rooms: Annotated[int, _data("rooms: how many to validate on.", least=1)] = 200
    size: Annotated[tuple[int, int], _data("rooms: height and width [px].", metavar="HxW", reader=SIZE)] = (
        192,
        256,
    )
    shrink: Annotated[
        int,
        _advanced(
            "rooms, folder: train at this fraction of the images' sides (2: half), for a cheap first pass.",
            least=1,
        ),
    ] = 1
    cache: Annotated[
        Path | None,
        _data("rooms: keep them here (0.25 MB each at 192x256) instead of rendering in every epoch."),
    ] = None
    start: Annotated[
        str,
        _start(
            "scratch; a GLPN checkpoint; or a MiT/SegFormer encoder in HF format (nvidia/mit-b4), which is "
            "what the paper starts from."
        ),
    ] = "scratch"
    config: Annotated[str, _start("scratch: demo, mit-b0 ... mit-b5, or a config.json.")] = "mit-b4"
    max_depth: Annotated[
        float | None,
        _start(
            "Depth [m] at which the network saturates [default: the data set's; kitti 80, else 10].", above=0
        ),
    ] = None
    revision: Annotated[str | None, _advanced("Hub revision.")] = None
    epochs: Annotated[int, _optimizer("Passes over the training samples.", least=1)] = 25
    batch: Annotated[  # a batch norm learns nothing from one sample
        int, _optimizer("Samples a step.", least=2)
    ] = 12
    lr: Annotated[float, _optimizer("Highest learning rate.", above=0)] = 1e-4
    schedule: Annotated[
        Schedule,
        _advanced(
            "paper: from 0.3 of --lr up to it and back, by the power 0.9; cosine: a short rise, then down to "
            "0, which suits training from scratch."
        ),
    ] = "paper"
    optimizer: Annotated[OptimizerName, _advanced()] = "adam"
    loss: Annotated[
        LossName,
        _advanced("silog: the paper's; log-l1: mean |ln depth - ln truth|, which outliers sway less."),
    ] = "silog"
    weight_decay: Annotated[float, _advanced("The optimizer's.", least=0)] = 0.0
    clip: Annotated[float | None, _advanced("Largest norm of the gradient.", above=0)] = None
    ema: Annotated[
        float | None,
        _advanced(
            "Validate and write a moving average of the weights with this decay (0.999).", least=0, below=1
        ),
    ] = None
    drop_path: Annotated[
        float | None, _advanced("Stochastic depth [default: the start's own].", least=0, below=1)
    ] = None
    precision: Annotated[
        Precision,
        _optimizer("auto: bf16 (or fp16) on a GPU, fp32 on a CPU; bf16 pays on a CPU that computes in it."),
    ] = "auto"
    seed: Annotated[int, _optimizer("Of initial weights, order and augmentation.", least=0)] = 0
    crop: Annotated[
        tuple[int, int] | None,
        _advanced(
            "Height and width [px] of the random crop [default: nyu 448x576, kitti 352x704, else the first "
            "image's size].",
            metavar="HxW",
            reader=SIZE,
        ),
    ] = None
    cutdepth: Annotated[float, _advanced("Share of samples with Vertical CutDepth.", least=0, most=1)] = 0.25
    cutdepth_scaling: Annotated[
        CutDepthScaling,
        _advanced(
            "unit pastes depth from black (0 m) to white (max depth); as-released pastes millimetres that "
            "wrap around at 256, as the authors' code does."
        ),
    ] = "unit"
    flip: Annotated[float, _advanced("Share of mirrored samples.", least=0, most=1)] = 0.5
    colour: Annotated[
        float,
        _advanced(
            "Share of samples that each of brightness/contrast, gamma and hue changes.", least=0, most=1
        ),
    ] = 0.5
    device: DeviceOption = "auto"
    workers: Annotated[int, _advanced("Processes that read samples; 0 reads in this one.", least=0)] = 2
    threads: Annotated[int | None, _advanced("Threads within one operator [default: torch's].", least=1)] = (
        None
    )
    save_every: Annotated[int, _advanced("Steps between states; a kill loses at most these.", least=1)] = 500
    fresh: Annotated[bool, Option("Begin anew where OUT holds a state.")] = False
    offline: Offline = False

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("size", "crop"):
            for side in getattr(self, name) or ():
                if side < 32 or side % 32:
                    raise bad_option(name, "x".join(map(str, getattr(self, name))), "multiples of 32 px")
        if self.dataset == "rooms" and self.path is not None:
            raise bad_option("path", str(self.path), "none for rooms: they are rendered")
        if self.dataset != "rooms" and self.path is None:
            raise InputError(f"the {self.dataset} data set has no path", expected="the folder it lies in")
        if self.dataset in ("nyu", "kitti") and self.shrink != 1:
            raise bad_option(
                "shrink", self.shrink, f"1: the protocol of {self.dataset} counts in its own pixels"
            )
        if self.dataset != "rooms" and self.cache is not None:
            raise bad_option("cache", str(self.cache), "none: only rooms are rendered into a cache")

    def identity(self) -> dict[str, Any]:
        """What decides the loss curve, as plain values: a run goes on only where all of it is the same."""
        values = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in values.items() if name not in _FREE_ON_RESUME}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    return list(value) if isinstance(value, tuple) else value
