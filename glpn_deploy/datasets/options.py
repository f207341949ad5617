"""What data sets are told. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.options import SIZE, Option, check_options

Kind = Literal["nyu", "kitti", "folder", "frames", "rooms"]
_option = partial(Option, panel="Data set")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What a data set is told beside its kind and place; each kind takes some of it."""

    split: Annotated[str | None, _option("train, val (rooms only) or test [default: test].")] = None
    count: Annotated[int | None, _option("Rooms to render [default: 500].", least=1)] = None
    size: Annotated[
        tuple[int, int] | None,
        _option(
            "Size that rooms are rendered at [default: what the demo network is trained on].",
            names=("--room-size",),
            metavar="HxW",
            reader=SIZE,
        ),
    ] = None
    file_list: Annotated[
        Path | None, _option("nyu and kitti: list of image and depth files; for the .mat, of image numbers.")
    ] = None
    depth_root: Annotated[
        Path | None, _option("kitti: folder that the depth paths start from, if another.")
    ] = None
    depth_scale: Annotated[
        float | None, _option("folder, frames: units per metre of depth PNGs (1000 for millimetres).")
    ] = None
    kb_crop: Annotated[
        bool | None,
        _option("kitti: cut to the benchmark's 352x1216 [default: yes].", names=("--kb-crop/--no-kb-crop",)),
    ] = None
    as_released: Annotated[
        bool | None, _option("nyu .mat: raw depth and black border.", names=("--as-released",))
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroundTruthOptions:
    """A data set to evaluate on as well, where a kind is named.

    Attributes:
        dataset: None evaluates on none.
        path: Its folder or file; rooms need none.
        count: Rooms to render.

    Raises:
        InputError: A kind comes without its path, or something is told of no data set.
    """

    dataset: Annotated[
        Kind | None,
        _option(
            "Also evaluate each precision against ground truth, on this kind of data set.", names=("--eval",)
        ),
    ] = None
    path: Annotated[
        str | None,
        _option(
            "That data set's folder or file.", names=("--data-path",), former=("--eval-path",), metavar="PATH"
        ),
    ] = None
    count: Annotated[
        int | None, _option("Rooms to evaluate on [default: 500].", former=("--eval-count",), least=1)
    ] = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.dataset is None and (self.path is not None or self.count is not None):
            name = "--count" if self.path is None else "--data-path"
            raise InputError(
                f"{name} without --eval", expected="a data set to evaluate on, such as --eval rooms"
            )
        if self.path is None and self.dataset not in (None, "rooms"):
            raise InputError(
                f"--eval {self.dataset} needs a path", fix="pass --data-path, its folder or file"
            )
