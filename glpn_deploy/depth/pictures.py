"""Depth beside its image: panels on a sheet, each with its colour scale in metres, and the error map."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glpn_deploy.depth.colormap import colorize_depth, label_font, round_ticks
from glpn_deploy.errors import InputError

_PANEL_SIDE = 440  # px; smaller pictures are enlarged in whole steps to about this as geometric mean
_COLUMN = 240  # px; the least width of a panel's column, for the text of very narrow pictures
_SMALLEST_TEXT = 10  # px
_SHEET_ASPECT = 1.6  # width to height that a sheet of panels comes near, for screens and phones alike
_ERROR_PERCENTILE = 98  # of the pixels; the rest has the colour of the scale's end
_INK, _GREY, _PAPER = (24, 24, 27), (96, 96, 104), (255, 255, 255)
# Diverging, nearer than the truth to farther; red and blue as in the depth's own scale, where warm is near.
# The stops are ColorBrewer's RdBu (C. Brewer, Apache-2.0).
_DIVERGING = np.array(
    [
        [103, 0, 31],
        [214, 96, 77],
        [244, 165, 130],
        [247, 247, 247],
        [146, 197, 222],
        [67, 147, 195],
        [5, 48, 97],
    ]
)


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """A colour scale under a panel.

    Attributes:
        low: Value at the left end [m].
        high: Value at the right end [m].
        color: (H, W) metres -> (H, W, 3) uint8, the very function that coloured the panel.
    """

    low: float
    high: float
    color: Callable[[NDArray[np.float32]], NDArray[np.uint8]]
    left: str = ""
    right: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a row.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        note: A line under it, where it has no scale.
        smooth: Enlarge smoothly, as for photographs; otherwise every pixel stays a square of one colour.
    """

    title: str
    picture: NDArray[np.uint8]
    scale: Scale | None = None
    note: str = ""
    smooth: bool = False


def image_panel(title: str, image: NDArray[np.uint8], note: str = "") -> Panel:
    """A panel of a photograph: (H, W, 3) uint8 RGB."""
    return Panel(title, image, note=note, smooth=True)


def depth_panel(title: str, depth: NDArray[np.float32], max_m: float) -> Panel:
    """A panel of depth (H, W) [m] on the fixed scale from 0 to ``max_m`` [m]; black is no depth."""
    color = functools.partial(colorize_depth, min_m=0.0, max_m=max_m)
    return Panel(title, color(depth), Scale(0.0, max_m, color, "near", "far"))


def error_panel(title: str, pred: NDArray[np.float32], gt: NDArray[np.float32], limit_m: float) -> Panel:
    """A panel of ``error_map``, with its scale from ``-limit_m`` to ``limit_m`` [m]."""
    color = functools.partial(color_error, limit_m=limit_m)
    return Panel(title, error_map(pred, gt, limit_m), Scale(-limit_m, limit_m, color, "too near", "too far"))


def error_limit(pred: NDArray[np.float32], gt: NDArray[np.float32]) -> float:
    """Where an error map's colours should end: the first of 1, 2, 5, 10 ... that holds 98 % of the errors.

    Args:
        pred: Predicted depth, (H, W) [m].
        gt: True depth, (H, W) [m]; not counted where it is not finite or not above 0.

    Returns:
        The limit [m], at least 1 micrometre.
    """
    error = np.abs(pred.astype(np.float64) - gt)[np.isfinite(gt) & (gt > 0) & np.isfinite(pred)]
    most = max(float(np.percentile(error, _ERROR_PERCENTILE)), 1e-6) if error.size else 1.0
    decade = 10.0 ** math.floor(math.log10(most))
    return float(next(f"{decade * step:.0e}" for step in (1, 2, 5, 10) if decade * step >= most * 0.999))


def error_map(pred: NDArray[np.float32], gt: NDArray[np.float32], limit_m: float = 1.0) -> NDArray[np.uint8]:
    """The signed error ``pred - gt`` in colour: white is right, red too near, blue too far.

    Args:
        pred: Predicted depth, (H, W) [m].
        gt: True depth, (H, W) [m]; black in the map where it is not finite or not above 0.
        limit_m: Error at which the colours end [m].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if pred.shape != gt.shape or gt.ndim != 2:
        raise InputError(
            f"the prediction has shape {pred.shape} and the ground truth {gt.shape}",
            expected="the same (H, W)",
        )
    known = np.isfinite(gt) & (gt > 0)
    error = np.where(known, pred - np.where(known, gt, 0), np.nan).astype(np.float32)
    return color_error(error, limit_m)


def color_error(error: NDArray[np.float32], limit_m: float) -> NDArray[np.uint8]:
    """Colours a signed error (H, W) [m] from ``-limit_m`` (red) over 0 (white) to ``limit_m`` (blue).

    Returns:
        (H, W, 3) uint8 RGB; black where the error is NaN.
    """
    if not 0 < limit_m < math.inf:
        raise InputError(f"the error scale ends at {limit_m} m", expected="metres, finite and above 0")
    known = ~np.isnan(error)
    share = (np.where(known, error, 0).clip(-limit_m, limit_m) / limit_m + 1) / 2
    stops = np.linspace(0, 1, len(_DIVERGING))
    channels = [np.interp(share, stops, _DIVERGING[:, channel]) for channel in range(3)]
    colors: NDArray[np.uint8] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    colors[~known] = 0
    return colors


def compose(panels: Sequence[Panel], heading: str = "", footer: str = "") -> NDArray[np.uint8]:
    """Puts panels of one size on a sheet, titles above and colour scales below.

    They stand in a row, in a column or in a grid without holes, whichever sheet's shape is nearest to a
    screen's: two photographs beside each other, four in two rows, wide ones below each other.

    Args:
        panels: The panels, at least one; small ones are all enlarged by the same whole factor.
        footer: Lines below all; long ones are wrapped.

    Returns:
        (H, W, 3) uint8 RGB on white.
    """
    sizes = {panel.picture.shape for panel in panels}
    if len(sizes) != 1:
        raise InputError(f"panels of {len(sizes)} sizes", expected="at least one panel, all of one size")
    height, width = next(iter(sizes))[:2]
    columns = _columns(len(panels), width / height)
    factor = max(1, round(_PANEL_SIDE / math.sqrt(height * width)))
    height, width = height * factor, width * factor
    size = max(14, min(height, width) // 14)
    gap = size
    text = _Text(size)
    column = max(width, _COLUMN)
    title, scale = round(1.7 * size), size // 2
    below = round(3.9 * size) if any(panel.scale or panel.note for panel in panels) else 0
    row = title + height + scale + below
    total = gap + columns * (column + gap)
    top = gap + (round(2.2 * size) if heading else 0)
    lines = text.wrap(footer, total - 2 * gap)
    bottom = top + len(panels) // columns * row
    canvas = Image.new("RGB", (total, bottom + round(1.45 * size) * len(lines) + gap), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if heading:
        text.line(draw, (gap, gap), heading, 1.25, _INK, width=total - 2 * gap)
    for number, panel in enumerate(panels):
        left, upper = gap + number % columns * (column + gap), top + number // columns * row
        text.line(draw, (left, upper), panel.title, 1.1, _INK, width=column)
        method = Image.Resampling.BICUBIC if panel.smooth else Image.Resampling.NEAREST
        picture = Image.fromarray(panel.picture).resize((width, height), method)
        canvas.paste(picture, (left, upper + title))
        under = (left, upper + title + height + scale)
        if panel.scale is not None:
            _draw_scale(canvas, draw, text, panel.scale, under, column)
        elif panel.note:
            text.line(draw, under, panel.note, 0.9, _GREY, width=column)
    for number, line in enumerate(lines):
        text.line(draw, (gap, bottom + number * round(1.45 * size)), line, 0.9, _GREY)
    return np.asarray(canvas)


def _columns(count: int, aspect: float) -> int:
    """Columns of a full grid of panels (width to height: ``aspect``) whose shape is nearest to a screen."""
    grids = [columns for columns in range(1, count + 1) if count % columns == 0]
    return min(grids, key=lambda columns: abs(math.log(columns**2 / count * aspect / _SHEET_ASPECT)))


class _Text:
    """Lines of text in multiples of one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def line(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        scale: float,
        color: tuple[int, int, int],
        anchor: float = 0.0,
        width: float = math.inf,
    ) -> None:
        """Draws a line; ``anchor`` 0 puts its left end at the point, 0.5 its middle, 1 its right end.

        A line longer than ``width`` [px] is drawn smaller, and what still does not fit is cut off.
        """
        font = label_font(round(self.size * scale))
        if font.getlength(text) > width:
            font = label_font(max(_SMALLEST_TEXT, int(self.size * scale * width / font.getlength(text))))
        while text.rstrip(".") and font.getlength(text) > width:
            text = text.rstrip(".")[:-1].rstrip() + "..."
        draw.text((at[0] - anchor * font.getlength(text), at[1]), text, fill=color, font=font)

    def wrap(self, text: str, width: float) -> list[str]:
        """Breaks text into lines that fit the width in the footer's size."""
        font = label_font(round(self.size * 0.9))
        lines: list[str] = []
        for paragraph in text.splitlines():
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if line and font.getlength(longer) > width:
                    lines.append(line)
                    longer = word
                line = longer
            lines.append(line)
        return lines


def _draw_scale(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, text: _Text, scale: Scale, at: tuple[int, int], width: int
) -> None:
    """A horizontal bar in the panel's own colours, with ticks in metres and what its ends mean."""
    left, top = at
    size = text.size
    values = np.linspace(scale.low, scale.high, width, dtype=np.float32)
    if scale.low == 0:
        values[0] = values[1]  # depth 0 means none, and is black
    bar = np.broadcast_to(scale.color(values[None]), (round(0.8 * size), width, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top))
    labels_top = top + round(1.1 * size)
    for tick in round_ticks(scale.low, scale.high, count=4 if scale.low < 0 else 5):
        share = (tick - scale.low) / (scale.high - scale.low)
        x = left + share * (width - 1)
        draw.line([(x, top + round(0.8 * size)), (x, top + size)], fill=_INK, width=max(1, size // 14))
        sign = "+" if scale.low < 0 < tick else ""
        text.line(draw, (x, labels_top), f"{sign}{tick:g} m", 0.8, _INK, share)
    ends_top = labels_top + size
    text.line(draw, (left, ends_top), scale.left, 0.8, _GREY)
    text.line(draw, (left + width - 1, ends_top), scale.right, 0.8, _GREY, 1.0)
