"""ImageOptions: how images are read and shown to the network. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Literal

from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, Option, Reader, check_options, parse_size

MAX_PIXELS = 89_478_485  # Pillow's own limit: 1/4 GiB of RGB
Channels = Literal["rgb", "bgr"]
InputSize = tuple[int, int] | Literal["auto", "own"]
_advanced = partial(Option, panel=ADVANCED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How images are read, and at which size the network sees them; depth has the images' own size.

    Depth changes with the size at which the network sees a scene: best is the one nearest to its training's.

    Attributes:
        channels: Order of the channels of numpy arrays: ``bgr`` for OpenCV's. Files and PIL images say
            theirs.

    Raises:
        InputError: A value is out of range, or two contradict each other.
    """

    max_side: Annotated[
        int | None,
        Option(
            "Shrink larger images to this longer side [px] for the network; the depth has the image's size.",
            least=32,
        ),
    ] = None
    input_size: Annotated[
        InputSize | None,
        Option(
            "Show the network every image at this size, whatever its shape; the depth has the image's size. "
            "auto: near the size that it was trained at, in the image's shape; own: the image's [default: "
            "auto for a network that was trained on one kind of image, else own].",
            names=("--size",),
            former=("--input-size",),
            metavar="HxW|auto|own",
            reader=Reader(
                lambda option, text: text if text in ("auto", "own") else parse_size(option, text), str
            ),
        ),
    ] = None
    white_point: Annotated[
        float | None,
        _advanced(
            "Value of white in grey images of 16 bits or of floats: 4095 for 12 bits, 255 for floats up to "
            "it [default: 65535, and 1 for floats].",
            above=0,
        ),
    ] = None
    max_pixels: Annotated[
        int, _advanced("Refuse larger images; raise it for those that you trust.", least=1)
    ] = MAX_PIXELS
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        check_options(self)
        size = self.input_size
        sides = size if isinstance(size, tuple) else (32,)
        if size is not None and (self.max_side is not None or min(sides) < 32):
            told = size if isinstance(size, str) else f"{'x'.join(map(str, size))} px"
            raise InputError(
                f"an input_size of {told}, max_side {self.max_side}",
                expected="one of the two, and sides of 32 px or more",
            )
