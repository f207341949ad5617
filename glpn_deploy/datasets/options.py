"""DatasetOptions: what the kinds of data set are told. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from glpn_deploy.options import SIZE, Option

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
