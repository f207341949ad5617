"""Options of commands alone, which no library function is told."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, WORDS, Auto, Option, Reader, check_options, parse_numbers

JsonOption = Annotated[bool, Option("Print one JSON object to standard output.", names=("--json",))]
VerboseOption = Annotated[
    bool, Option("Also show every step, and what was tried.", names=("--verbose", "-v"))
]

Format = Literal[
    "mm",
    "kitti",
    "color",
    "side",
    "below",
    "gray",
    "gray16",
    "npy",
    "tiff",
    "exr",
    "ply",
    "preview",
    "png",
    "jsonl",
]
SUFFIXES: dict[Format, str] = {  # of images; of videos see video/outputs.py
    "mm": ".depth_mm.png",
    "kitti": ".depth_kitti.png",
    "color": ".depth_color.png",
    "gray": ".depth_gray.png",
    "gray16": ".depth_gray16.png",
    "npy": ".depth.npy",
    "tiff": ".depth.tiff",
    "exr": ".depth.exr",
    "ply": ".ply",
    "preview": ".depth_cloud.png",
    "side": ".depth_side.png",
    "below": ".depth_below.png",
}

ABOUT_FILES: dict[str, str] = {  # told once
    "mm": "millimetres in 16 bits, 0 where there is none; looks black in a viewer",
    "kitti": "1/256 m in 16 bits, as KITTI keeps depth; nearly black as well",
    "color": "the same in colour, warm is near, with its scale in metres",
    "gray": "the same in grey, 8 bits",
    "gray16": "the same in grey, 16 bits",
    "npy": "float32 metres, for numpy.load",
    "tiff": "float32 metres; most viewers show it white or black",
    "exr": "float32 metres, channel Z",
    "ply": "a coloured point cloud in metres, for MeshLab or CloudCompare",
    "preview": "the point cloud as a picture, seen from above and the side",
    "side": "the image and its depth in colour",
    "below": "the image and its depth in colour",
}

_advanced = partial(Option, panel=ADVANCED)


def _parse_max_m(option: str, text: str) -> float | Auto:
    if text == "auto":
        return "auto"
    try:
        (number,) = parse_numbers(option, text)
    except ValueError:  # an InputError as well
        raise InputError(f"{option} {text!r}", expected="metres, or auto") from None
    return number


def _parse_intrinsics(option: str, text: str) -> tuple[float, ...]:
    numbers = parse_numbers(option, text)
    if len(numbers) != 4:
        raise InputError(f"{option} {text!r}", expected="four numbers: FX,FY,CX,CY")
    return numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """What glpn-predict writes of every image, and where.

    Raises:
        InputError: A format is unknown, or a value is out of range.
    """

    out: Annotated[Path, Option("Folder for the results; made if needed.", names=("--out", "-o"))] = Path(
        "depth"
    )
    save: Annotated[
        tuple[Format, ...],
        Option(
            "What to save, separated by commas: mm (16-bit millimetre PNG), kitti (the same at 256 units a "
            "metre, which reaches 256 m), color (PNG on a metre scale), side and below (the same at the "
            "right of the image, or below it), gray, gray16 (8 or 16 bits), npy and tiff (float32 metres), "
            "exr (needs the exr extra), ply and preview (a point cloud, and a picture of it; they need "
            "--fov or --intrinsics). Of videos: mm (lossless MKV), color, side and below (MP4), png, jsonl.",
            reader=WORDS,
        ),
    ] = ("mm", "color")
    max_m: Annotated[
        float | Auto | None,
        Option(
            "Far end of the colour scale [m] [default: the network's]; auto: what 98 % of a picture's pixels "
            "lie within.",
            metavar="METRES|auto",
            least=0.01,
            reader=Reader(_parse_max_m),
        ),
    ] = None
    near: Annotated[
        Literal["white", "black"], _advanced("Which end is near, for --save gray and gray16.")
    ] = "white"
    legend: Annotated[
        bool,
        _advanced(
            "--no-legend leaves the scale beside the colours out: the picture has the image's size.",
            names=("--legend/--no-legend",),
        ),
    ] = True
    fov: Annotated[
        float | None,
        Option("Horizontal field of view [degrees], for --save ply and preview.", least=1, most=179),
    ] = None
    intrinsics: Annotated[
        tuple[float, ...] | None,
        Option(
            "The camera's intrinsics [px], for --save ply and preview.",
            metavar="FX,FY,CX,CY",
            reader=Reader(_parse_intrinsics),
        ),
    ] = None

    compress_level: Annotated[
        int,
        Option(
            "Of the PNGs of mm and kitti, 0 to 9: smaller files, more time.", least=0, most=9, panel=ADVANCED
        ),
    ] = 1
    skip_existing: Annotated[
        bool, _advanced("Go on where a long run was stopped: leave images whose results are all there.")
    ] = False

    def __post_init__(self) -> None:
        check_options(self)
