"""Random materials for rendered rooms: woods, paints, floors, walls and fabrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glpn_deploy.datasets.rendering.scene import Material, Pattern, Rgb

WHITE = Material((0.75, 0.75, 0.73), gloss=0.1)
BLACK = Material((0.03, 0.03, 0.035), gloss=0.5)
METAL = Material((0.45, 0.45, 0.46), gloss=0.8)


def color(rng: np.random.Generator, brightness: float, saturation: float) -> Rgb:
    """A random hue at about ``brightness`` (linear), greyer the smaller ``saturation`` is (0–1)."""
    hue, spread, level = rng.random(3).tolist()
    wheel = [0.5 + 0.5 * float(np.cos(2 * np.pi * (hue - k / 3))) for k in range(3)]
    amount = saturation * (0.3 + 0.7 * spread)
    value = brightness * (0.7 + 0.6 * level)
    red, green, blue = (value * (1 - amount + amount * 1.8 * w) for w in wheel)
    return (red, green, blue)


def darker(shade: Rgb, factor: float) -> Rgb:
    """``shade`` times ``factor``."""
    return (shade[0] * factor, shade[1] * factor, shade[2] * factor)


def wood(rng: np.random.Generator) -> Material:
    """Grained wood from ebony to birch, sometimes painted."""
    tone, warm, grain, gloss, painted = rng.random(5).tolist()
    value = 0.05 + 0.5 * tone**1.5
    shade = (value, value * (0.62 + 0.2 * warm), value * (0.3 + 0.35 * warm))
    if painted > 0.72:
        shade = color(rng, 0.5 if painted > 0.85 else 0.2, 0.4)
        return Material(shade, grain=0.06, grain_scale=(20.0, 20.0), gloss=0.3 * gloss)
    return Material(shade, grain=0.25 + 0.3 * grain, grain_scale=(4.0, 38.0), gloss=0.35 * gloss)


def fabric(rng: np.random.Generator) -> Material:
    """Cloth: plain, striped, dotted or checked."""
    kind, level = rng.random(2).tolist()
    base = Material(color(rng, 0.08 + 0.4 * level, 0.7), grain=0.35, grain_scale=(70.0, 70.0))
    if kind < 0.55:
        return base
    scale = float(rng.uniform(4, 16))
    pattern = (Pattern.STRIPES, Pattern.DOTS, Pattern.CHECKER)[int(rng.integers(3))]
    gap = 0.28 if pattern == Pattern.DOTS else 0.4
    return replace(base, second=color(rng, 0.35, 0.6), pattern=pattern, scale=(scale, scale), gap=gap)


def plastic(rng: np.random.Generator) -> Material:
    """A smooth, often strong color."""
    return Material(color(rng, 0.3, 0.9), grain=0.05, gloss=0.6)


def cardboard(rng: np.random.Generator) -> Material:
    """The brown of a parcel, with its tape."""
    value = float(rng.uniform(0.22, 0.42))
    shade = (value, value * 0.72, value * 0.46)
    return Material(
        shade, darker(shade, 0.7), Pattern.STRIPES, (1.7, 1.0), 0.12, grain=0.15, grain_scale=(8.0, 30.0)
    )


def panels(rng: np.random.Generator, base: Material, across: float, up: float) -> Material:
    """``base`` with door or drawer joints, ``across`` and ``up`` repeats a metre."""
    gap = 0.02 + 0.02 * float(rng.random())
    shade = darker(base.color, 0.35)
    return replace(base, second=shade, pattern=Pattern.PANELS, scale=(across, up), gap=gap, variation=0.05)


def books(rng: np.random.Generator) -> Material:
    """A row of spines."""
    scale = float(rng.uniform(22, 38))
    first, second = color(rng, 0.08, 0.8), color(rng, 0.65, 0.6)
    return Material(first, second, Pattern.MOSAIC, (scale, 0.3), variation=0.95, grain=0.2)


def painting(rng: np.random.Generator) -> Material:
    """Something to hang on a wall."""
    scale = rng.uniform(2, 8, 2).tolist()
    return Material(
        color(rng, 0.15, 0.9), color(rng, 0.6, 0.9), Pattern.ART, (scale[0], scale[1]), variation=1.0
    )


def daylight(rng: np.random.Generator) -> Material:
    """What is seen through a window: sky and greenery, overexposed."""
    glow = float(rng.uniform(0.8, 2.5))
    second = (0.8, 0.9, 1.0) if rng.random() < 0.7 else (0.5, 0.75, 0.4)
    return Material((0.55, 0.72, 0.85), second, Pattern.ART, (1.1, 2.4), variation=0.5, glow=glow, gloss=0.3)


def floor(rng: np.random.Generator) -> Material:
    """Planks, tiles, carpet, checkers or bare screed."""
    kind, level = rng.random(2).tolist()
    if kind < 0.45:
        base = wood(rng)
        across = float(rng.uniform(5, 11))
        return replace(base, second=darker(base.color, 0.3), pattern=Pattern.PLANKS,
                       scale=(float(rng.uniform(0.5, 1.1)), across), gap=0.05, variation=0.55,
                       grain_scale=(3.0, 45.0), gloss=0.25 * level)  # fmt: skip
    if kind < 0.65:
        shade, scale = color(rng, 0.15 + 0.45 * level, 0.2), float(rng.uniform(1.6, 4.5))
        grout = darker(shade, 0.5 if level > 0.4 else 1.5)
        return Material(shade, grout, Pattern.TILES, (scale, scale), 0.03, 0.18, 0.12, (6.0, 6.0), gloss=0.35)
    if kind < 0.9:
        return Material(color(rng, 0.06 + 0.35 * level, 0.45), grain=0.5, grain_scale=(60.0, 60.0))
    if kind < 0.95:
        scale = float(rng.uniform(2.5, 5))
        return Material(
            color(rng, 0.5, 0.2), color(rng, 0.1, 0.4), Pattern.CHECKER, (scale, scale), gloss=0.3
        )
    return Material(color(rng, 0.3, 0.1), grain=0.25, grain_scale=(7.0, 7.0))


def wall(rng: np.random.Generator) -> Material:
    """Paint, wallpaper or tiles."""
    kind, level, strength = rng.random(3).tolist()
    shade = color(rng, 0.35 + 0.3 * level, 0.5 * strength)
    if kind < 0.68:
        return Material(shade, grain=0.02 + 0.07 * level * strength, grain_scale=(14.0, 14.0))
    other = darker(shade, 0.72 if level > 0.4 else 1.25)
    scale = float(rng.uniform(2.5, 9))
    if kind < 0.82:
        return Material(shade, other, Pattern.STRIPES, (scale, 1.0), 0.4, grain=0.06)
    if kind < 0.9:
        return Material(shade, other, Pattern.DOTS, (scale, scale), 0.22, grain=0.06)
    if kind < 0.95:
        return Material(shade, darker(shade, 0.6), Pattern.TILES, (scale, scale), 0.04, 0.1, 0.05, gloss=0.4)
    return Material((0.33, 0.13, 0.08), (0.4, 0.38, 0.35), Pattern.PLANKS, (4.0, 13.0), 0.12, 0.5, 0.4)
