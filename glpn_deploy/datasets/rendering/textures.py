"""The procedural surfaces of rendered rooms: reflectance from a material and a place on its face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glpn_deploy.datasets.rendering.scene import Floats, Ints, Material, Pattern

_SIDE = 64  # cells of the random lattice before it repeats
_MASK = _SIDE - 1
_LATTICE: npt.NDArray[np.float32] = np.random.Generator(np.random.PCG64(20)).random(
    _SIDE * _SIDE, dtype=np.float32
)
_LAST = _SIDE * _SIDE - 1
_RIGHT, _BELOW, _BELOW_RIGHT = (np.roll(_LATTICE, -step) for step in (1, _SIDE, _SIDE + 1))


@dataclass(frozen=True, slots=True)
class MaterialTable:
    """Materials as arrays, one row each, so that a pixel looks its numbers up by row."""

    pattern: npt.NDArray[np.int8]
    color: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    gap: npt.NDArray[np.float32]
    variation: npt.NDArray[np.float32]
    grain: npt.NDArray[np.float32]
    grain_scale: npt.NDArray[np.float32]
    gloss: npt.NDArray[np.float32]
    glow: npt.NDArray[np.float32]

    @classmethod
    def of(cls, materials: tuple[Material, ...]) -> MaterialTable:
        """Lays ``materials`` out as arrays, in their order."""

        def column(values: list[object]) -> npt.NDArray[np.float32]:
            return np.array(values, dtype=np.float32)

        return cls(
            pattern=np.array([m.pattern for m in materials], dtype=np.int8),
            color=column([m.color for m in materials]),
            second=column([m.second for m in materials]),
            scale=column([m.scale for m in materials]),
            gap=column([m.gap for m in materials]),
            variation=column([m.variation for m in materials]),
            grain=column([m.grain for m in materials]),
            grain_scale=column([m.grain_scale for m in materials]),
            gloss=column([m.gloss for m in materials]),
            glow=column([m.glow for m in materials]),
        )


def value_noise(u: Floats, v: Floats) -> Floats:
    """Smooth noise in 0–1 with one random value on each whole (u, v); both (P,) float32."""
    low_u, low_v = np.floor(u), np.floor(v)
    fu, fv = u - low_u, v - low_v
    column, row = low_u.astype(np.int32), low_v.astype(np.int32)
    row *= _SIDE  # a line of the lattice goes on in the next one, so that one mask wraps both directions
    row += column
    fu *= fu * (3.0 - 2.0 * fu)
    fv *= fv * (3.0 - 2.0 * fv)
    row &= _LAST
    at = row.astype(np.intp)
    a, b = _LATTICE.take(at), _RIGHT.take(at)
    c, d = _BELOW.take(at), _BELOW_RIGHT.take(at)
    a += (b - a) * fu
    c += (d - c) * fu
    a += (c - a) * fv
    return a


def reflectance(table: MaterialTable, row: Ints, u: Floats, v: Floats, pixel: Floats) -> list[Floats]:
    """Color of every pixel before light falls on it.

    Args:
        row: (P,) which material each pixel shows.
        u: (P,) float32, place on the face along its first direction [m].
        v: (P,) float32, along its second direction [m].
        pixel: (P,) float32, what one pixel covers there [m]; patterns finer than that fade out.

    Returns:
        Linear red, green and blue, each (P,) float32.
    """
    colors = [table.color[:, c].take(row) for c in range(3)]
    kinds = table.pattern.take(row)
    for kind in np.unique(table.pattern):
        if kind == Pattern.PLAIN:
            continue
        at = np.flatnonzero(kinds == kind)
        if at.size:
            _apply(Pattern(kind), table, row[at], u[at], v[at], pixel[at], at, colors)
    noise = _grain(table, row, u, v, pixel)
    for color in colors:
        color *= noise
    return colors


def _grain(table: MaterialTable, row: Ints, u: Floats, v: Floats, pixel: Floats) -> Floats:
    """Brightness factor of two octaves of noise, faded where a pixel covers a whole cell."""
    scale_u, scale_v = table.grain_scale[:, 0].take(row), table.grain_scale[:, 1].take(row)
    strength = table.grain.take(row)
    coarse_u, coarse_v = u * scale_u, v * scale_v
    cells = np.maximum(scale_u, scale_v) * pixel
    noise = (value_noise(coarse_u, coarse_v) - 0.5) * np.clip(1.6 - cells, 0.0, 1.0)
    coarse_u *= 3.7
    coarse_v *= 3.7
    noise += (value_noise(coarse_u, coarse_v) - 0.5) * (0.6 * np.clip(1.6 - 3.7 * cells, 0.0, 1.0))
    slow = value_noise(u * 0.9, v * 0.9) - 0.5  # stains and uneven paint
    factor: Floats = np.maximum(1.0 + strength * (1.5 * noise + 0.5 * slow), 0.1)
    return factor


def _apply(
    kind: Pattern,
    table: MaterialTable,
    row: Ints,
    u: Floats,
    v: Floats,
    pixel: Floats,
    at: Ints,
    colors: list[Floats],
) -> None:
    """Mixes the second color into ``colors[…][at]`` where ``kind`` has it."""
    scale_u, scale_v = table.scale[:, 0].take(row), table.scale[:, 1].take(row)
    gap = table.gap.take(row)
    a, b = u * scale_u, v * scale_v
    soft_a, soft_b = pixel * scale_u + 1e-4, pixel * scale_v + 1e-4
    shade: Floats | None = None
    if kind in (Pattern.PLANKS, Pattern.TILES, Pattern.PANELS):
        line = np.floor(b)
        if kind == Pattern.PLANKS:
            a = a + 7.77 * _cell(line, line)
        shade = _cell(np.floor(a), line)
        # a gap is measured against the shorter side, so that it is equally wide along both
        ratio = scale_u / scale_v
        wide_a, wide_b = gap * np.minimum(ratio, 1.0), gap * np.minimum(1.0 / ratio, 1.0)
        second = np.maximum(_near_edge(a, wide_a, soft_a), _near_edge(b, wide_b, soft_b))
        if kind == Pattern.PANELS:  # a groove inside each panel
            inner = np.minimum(_edge_distance(a) / wide_a, _edge_distance(b) / wide_b)
            second = np.maximum(second, 0.45 * ((inner > 3.0) & (inner < 4.0)))
    elif kind == Pattern.STRIPES:
        second = np.clip((gap * 0.5 - _edge_distance(a)) / soft_a + 0.5, 0.0, 1.0)
    elif kind == Pattern.CHECKER:
        odd = (np.floor(a) + np.floor(b)) % 2.0
        sharp = np.clip(1.5 - 2.0 * np.maximum(soft_a, soft_b), 0.0, 1.0)
        second = 0.5 + (odd - 0.5) * sharp
    elif kind == Pattern.DOTS:
        shifted = a + 0.5 * (np.floor(b) % 2.0)
        away = np.hypot(shifted - np.floor(shifted) - 0.5, b - np.floor(b) - 0.5)
        second = np.clip((gap - away) / soft_a + 0.5, 0.0, 1.0)
        second *= np.clip(1.8 - 2.0 * soft_a, 0.0, 1.0)
    else:
        _random_colors(kind, table, row, a, b, at, colors)
        return
    keep = 1.0 - second
    if shade is not None:
        keep *= 1.0 + table.variation.take(row) * (shade - 0.5)
    for channel, color in enumerate(colors):
        color[at] = color[at] * keep + table.second[:, channel].take(row) * second


def _random_colors(
    kind: Pattern, table: MaterialTable, row: Ints, a: Floats, b: Floats, at: Ints, colors: list[Floats]
) -> None:
    """Books and patchwork (one color a cell), or a painting (colors that flow)."""
    strength = table.variation.take(row)
    for channel, color in enumerate(colors):
        other = table.second[:, channel].take(row)
        if kind == Pattern.MOSAIC:
            spine, shelf = np.floor(a), np.floor(b)
            pick = _cell(spine * 3.0 + channel, shelf + 5.0) * 0.75 + _cell(spine + 31.0, shelf) * 0.25
            pick = pick * (0.7 + 0.3 * np.clip(_edge_distance(a) * 8.0, 0.0, 1.0))
        else:
            offset = 17.3 * channel + 41.0 * other  # every painting is another one
            pick = value_noise(a + offset, b + 0.4 * offset)
            pick = np.clip(
                0.5 + 1.8 * (0.6 * pick + 0.4 * value_noise(a * 2.6, b * 2.6 + offset) - 0.5), 0, 1
            )
        base = color[at]
        color[at] = base + (other - base) * (1.0 - strength + strength * pick) * (pick + 0.15)


def _cell(i: Floats, j: Floats) -> Floats:
    """One random value in 0–1 for each whole (i, j)."""
    row = ((j.astype(np.int32) * 29 + 11) & _MASK) * _SIDE
    found: Floats = _LATTICE.take(row + ((i.astype(np.int32) * 23 + 5) & _MASK))
    return found


def _edge_distance(a: Floats) -> Floats:
    """Distance to the nearest whole number."""
    distance: Floats = np.abs(a - np.rint(a))
    return distance


def _near_edge(a: Floats, width: Floats, soft: Floats) -> Floats:
    """Share of a pixel that the line of ``width`` on each whole number covers."""
    covered: Floats = np.clip((width * 0.5 - _edge_distance(a)) / soft + 0.5, 0.0, 1.0)
    return covered * np.minimum(1.0, width / soft + 0.15)
