"""Depth as colour: the Turbo map on a fixed metre scale, and the labelled bar that belongs to it."""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glpn_deploy.errors import InputError

# Polynomial of degree 5 for Turbo: A. Mikhailov, "Turbo, An Improved Rainbow Colormap for Visualization",
# Google AI Blog, 2019; coefficients by R. Du (Copyright 2019 Google LLC, Apache-2.0). Constant term first.
_TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


MaxM = float | Literal["auto"] | None
"""Where a scale ends [m]: there, fitted to the picture, or at the network's own far end."""
_AUTO_PERCENTILE = 98  # of the pixels' depth lie within a fitted scale


def scale_end(depth: NDArray[np.float32], max_depth: float, max_m: MaxM = None) -> float:
    """Where the scale of a depth map (H, W) [m] ends [m].

    Args:
        depth: The depth; pixels not finite or not above 0 are not counted.
        max_depth: The network's far end [m], which None stands for.
        max_m: ``auto`` takes the 98th percentile, rounded up to two digits.
    """
    if isinstance(max_m, str) and max_m != "auto":
        raise InputError(f"max_m is {max_m!r}", expected="metres, auto or None")
    if max_m != "auto":
        return max_depth if max_m is None else max_m
    valid = depth[np.isfinite(depth) & (depth > 0)]
    if not valid.size:
        return max_depth
    most = float(np.percentile(valid, _AUTO_PERCENTILE))
    digit = 10.0 ** (math.floor(math.log10(most)) - 1)
    return float(f"{math.ceil(most / digit - 1e-6) * digit:.6g}")


def color_picture(
    depth: NDArray[np.float32],
    max_m: float,
    *,
    min_m: float = 0.0,
    image: NDArray[np.uint8] | None = None,
    below: bool = False,
    legend: bool = True,
) -> NDArray[np.uint8]:
    """`colorize_depth`'s picture, beside or below its image where one is given, with its scale at the right.

    Args:
        depth: (H, W) [m].
        max_m: Cold end of the scale [m].
        min_m: Warm end of the scale [m].
        image: (H, W, 3) uint8 RGB.
        below: The depth stands below the image instead of at its right.
        legend: Whether the scale is drawn; without it every pixel is one of the depth's or the image's.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    picture = colorize_depth(depth, min_m, max_m)
    if image is not None:
        if image.shape != picture.shape or image.dtype != np.uint8:
            raise InputError(
                f"an image of shape {image.shape} ({image.dtype}) beside the depth",
                expected=f"{picture.shape}, uint8: the image the depth was computed from, at its own size",
            )
        picture = np.concatenate([image, picture], axis=0 if below else 1)
    if legend:
        picture = np.concatenate([picture, draw_legend(len(picture), min_m, max_m)], axis=1)
    return picture


def colorize_depth(depth: NDArray[np.float32], min_m: float, max_m: float) -> NDArray[np.uint8]:
    """Colours depth on a fixed scale, so that one colour means one distance in every image.

    Args:
        depth: (H, W) [m].
        min_m: Depth that gets the warm end (dark red), as does all that is nearer [m].
        max_m: Depth that gets the cold end (dark blue), as does all that is farther [m].

    Returns:
        (H, W, 3) uint8 RGB; black where the depth is not finite or not above 0.

    Raises:
        InputError: The limits are not finite numbers with ``min_m`` below ``max_m``.
    """
    if not (math.isfinite(min_m) and math.isfinite(max_m) and min_m < max_m):
        raise InputError(
            f"the colour scale goes from {min_m} m to {max_m} m", expected="finite metres, min_m below max_m"
        )
    valid = np.isfinite(depth) & (depth > 0)
    colors = _color_of(np.where(valid, depth, np.float32(max_m)), min_m, max_m)
    colors[~valid] = 0
    return colors


@functools.lru_cache(maxsize=4)  # the frames of a clip share one
def draw_legend(height: int, min_m: float, max_m: float) -> NDArray[np.uint8]:
    """A vertical colour bar with labels in metres, near at the bottom, to stand beside an image.

    The far end has its label too, unless a round number's stands there.

    Args:
        height: Height of the image [px].
        min_m: Lower end of the scale [m].
        max_m: Upper end of the scale [m].

    Returns:
        (height, w, 3) uint8 RGB; w grows with the height.
    """
    size = min(max(height // 28, 9), 64)
    font = label_font(size)
    ticks = round_ticks(min_m, max_m, count=max(2, min(6, height // (3 * size))))
    if max_m - ticks[-1] > 0.4 * (ticks[1] - ticks[0] if len(ticks) > 1 else max_m - min_m):
        ticks.append(max_m)
    labels = [f"{tick:.3g} m" for tick in ticks]
    text_width = max(math.ceil(font.getlength(label)) for label in labels)
    left, bar = size // 2, size
    width = left + bar + size // 2 + text_width + size // 2
    margin = min(size, height // 4)
    rows = np.linspace(max_m, min_m, height - 2 * margin, dtype=np.float32)
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[margin : height - margin, left : left + bar] = _color_of(rows, min_m, max_m)[:, None]
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for tick, label in zip(ticks, labels, strict=True):
        y = margin + (max_m - tick) / (max_m - min_m) * (len(rows) - 1)
        draw.line([(left + bar, y), (left + bar + size // 4, y)], fill=(0, 0, 0))
        top, bottom = font.getbbox(label)[1::2]
        draw.text((left + bar + size // 2, y - (top + bottom) / 2), label, fill=(0, 0, 0), font=font)
    drawn = np.asarray(picture)
    drawn.flags.writeable = False  # shared through the cache
    return drawn


def _color_of(depth: NDArray[np.float32], min_m: float, max_m: float) -> NDArray[np.uint8]:
    nearness = (max_m - depth) / (max_m - min_m)
    colors: NDArray[np.uint8] = _turbo_bytes()[np.rint(nearness.clip(0, 1) * 255).astype(np.uint8)]
    return colors


@functools.lru_cache(maxsize=1)
def _turbo_bytes() -> NDArray[np.uint8]:
    """Turbo in 256 steps, (256, 3), from dark blue to dark red.

    It starts at 0.04: the polynomial's own start is nearly black, which here means "no depth".
    """
    powers = np.linspace(0.04, 1, 256)[:, None] ** np.arange(6)
    table: NDArray[np.uint8] = np.rint((powers @ _TURBO.T).clip(0, 1) * 255).astype(np.uint8)
    table.flags.writeable = False  # shared through the cache
    return table


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers within the scale, about ``count`` of them."""
    rough = (high - low) / count
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(decade * factor for factor in (1, 2, 5, 10) if decade * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(index * step, 9) for index in range(first, last + 1)]


def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size [px], which no system has to bring; it has Latin letters only."""
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):  # Pillow before 10.1, or built without FreeType: one fixed size
        return ImageFont.load_default()
