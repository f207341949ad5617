"""Furniture as lists of primitives in a frame of its own: x across, y out into the room, z up from the floor.

A piece that stands at a wall has its back at negative y. Each builder draws its size and looks from
``rng`` and returns a `Piece`; `place` turns and moves one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from glpn_deploy.datasets.rendering import palette
from glpn_deploy.datasets.rendering.scene import Material, Solid, box, cylinder, sphere


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of furniture about its own origin.

    Attributes:
        width: Extent along x [m].
        depth: Extent along y [m].
        height: Extent along z [m].
    """

    solids: list[Solid]
    width: float
    depth: float
    height: float


Builder: TypeAlias = Callable[[np.random.Generator], Piece]


def place(solids: list[Solid], x: float, y: float, yaw: float) -> list[Solid]:
    """``solids`` turned by ``yaw`` [rad] about the origin and moved to (x, y) [m]."""
    cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
    moved = []
    for s in solids:
        a, b, c = s.center
        center = (x + cos * a - sin * b, y + sin * a + cos * b, c)
        moved.append(Solid(s.kind, center, s.half, s.yaw + yaw, s.material, s.front))
    return moved


def _legs(w: float, d: float, h: float, thick: float, material: Material) -> list[Solid]:
    x, y = w / 2 - thick / 2, d / 2 - thick / 2
    corners = ((-x, -y), (x, -y), (-x, y), (x, y))
    return [box((cx, cy, h / 2), (thick, thick, h), material) for cx, cy in corners]


def _clutter(rng: np.random.Generator, w: float, d: float, z: float, most: int) -> list[Solid]:
    """Small things on a surface ``w × d`` at height ``z``."""
    found: list[Solid] = []
    for _ in range(int(rng.integers(0, most + 1))):
        kind = rng.random()
        x, y = float(rng.uniform(-0.42, 0.42)) * w, float(rng.uniform(-0.38, 0.38)) * d
        a, b, c = rng.uniform(0.06, 0.3, 3).tolist()
        if kind < 0.35:
            size = (a, 0.5 * b + 0.06, 0.6 * c)
            found.append(
                box((x, y, z + size[2] / 2), size, palette.plastic(rng), yaw=float(rng.uniform(0, 3)))
            )
        elif kind < 0.6:
            found.append(cylinder((x, y, z + c / 2), 0.03 + 0.2 * a, c, palette.plastic(rng)))
        elif kind < 0.75:
            found.append(sphere((x, y, z + 0.03 + 0.2 * a), 0.03 + 0.2 * a, palette.plastic(rng)))
        elif kind < 0.88:
            glowing = Material(palette.color(rng, 0.7, 0.2), glow=float(rng.uniform(0, 1.2)))
            found.append(cylinder((x, y, z + 0.15), 0.025, 0.3, palette.METAL))
            found.append(cylinder((x, y, z + 0.36), 0.13, 0.18, glowing))
        else:
            screen = Material((0.03, 0.04, 0.06), palette.color(rng, 0.4, 0.5), gloss=0.6)
            found.append(box((x * 0.4, -0.2 * d, z + 0.26), (0.55, 0.04, 0.34), palette.BLACK, front=screen))
            found.append(box((x * 0.4, -0.2 * d, z + 0.045), (0.2, 0.15, 0.09), palette.BLACK))
    return found


def table(rng: np.random.Generator) -> Piece:
    """A table with things on it, rectangular or round, sometimes low."""
    w, d, h, thick = rng.uniform((0.8, 0.6, 0.68, 0.04), (1.8, 0.95, 0.78, 0.08)).tolist()
    if rng.random() < 0.3:
        h *= 0.6
    top = palette.wood(rng)
    legs = top if rng.random() < 0.6 else palette.METAL
    if rng.random() < 0.2:
        d = w = min(w, 1.2)
        body = [cylinder((0, 0, h - 0.02), w / 2, 0.04, top), cylinder((0, 0, h / 2), 0.05, h, legs),
                cylinder((0, 0, 0.015), 0.25, 0.03, legs)]  # fmt: skip
    else:
        body = [box((0, 0, h - 0.02), (w, d, 0.04), top), *_legs(w - 0.06, d - 0.06, h - 0.04, thick, legs)]
    return Piece(body + _clutter(rng, w * 0.8, d * 0.8, h, 5), w, d, h + 0.3)


def chair(rng: np.random.Generator) -> Piece:
    """A chair that faces +y."""
    seat, back, w = rng.uniform((0.42, 0.38, 0.40), (0.48, 0.55, 0.5)).tolist()
    frame = palette.wood(rng)
    cover = palette.fabric(rng) if rng.random() < 0.5 else frame
    solids = [box((0, 0, seat - 0.025), (w, w, 0.05), cover), *_legs(w, w, seat - 0.05, 0.04, frame)]
    if rng.random() < 0.5:
        solids.append(box((0, -w / 2 + 0.02, seat + back / 2), (w, 0.04, back), cover))
    else:
        solids += [box((0, -w / 2 + 0.02, seat + back * f), (w, 0.03, 0.09), cover) for f in (0.4, 0.9)]
        solids += [box((x, -w / 2 + 0.02, seat + back / 2), (0.04, 0.04, back), frame)
                   for x in (-w / 2 + 0.02, w / 2 - 0.02)]  # fmt: skip
    return Piece(solids, w, w, seat + back)


def bookcase(rng: np.random.Generator) -> Piece:
    """Shelves with books and small things."""
    w, d, h = rng.uniform((0.6, 0.24, 0.8), (1.3, 0.4, 2.1)).tolist()
    body = palette.wood(rng)
    boards = max(2, round(h / float(rng.uniform(0.28, 0.4))))
    solids = [box((x, 0, h / 2), (0.03, d, h), body) for x in (-w / 2 + 0.015, w / 2 - 0.015)]
    solids.append(box((0, -d / 2 + 0.01, h / 2), (w - 0.06, 0.02, h), body))
    step = (h - 0.05) / boards
    for board in range(boards + 1):
        z = 0.05 + board * step
        solids.append(box((0, 0, min(z, h - 0.015)), (w - 0.06, d, 0.03), body))
        if board < boards and rng.random() < 0.8:
            share, tall = float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.6, 0.85)) * step
            length = (w - 0.08) * share
            x = (-1.0 if rng.random() < 0.5 else 1.0) * ((w - 0.08) - length) / 2
            size = (length, d * 0.75, tall)
            solids.append(box((x, -0.03, z + 0.015 + tall / 2), size, palette.books(rng)))
    return Piece(solids, w, d, h)


def cupboard(rng: np.random.Generator) -> Piece:
    """A wardrobe, a chest of drawers or a sideboard."""
    w, d, h = rng.uniform((0.6, 0.4, 0.7), (1.6, 0.62, 1.1)).tolist()
    columns, rows = max(1, round(w / 0.55)), int(rng.integers(2, 5))
    if rng.random() < 0.45:
        h, rows = float(rng.uniform(1.7, 2.2)), 1
    body = palette.wood(rng)
    front = palette.panels(rng, body, columns / w, rows / (h - 0.08))
    solids = [box((0, 0, 0.04), (w - 0.06, d - 0.06, 0.08), palette.BLACK),
              box((0, 0, h / 2 + 0.04), (w, d, h - 0.08), body, front=front)]  # fmt: skip
    for column in range(columns):
        x = -w / 2 + (column + (0.5 if rows > 1 else 0.85)) * w / columns
        for row in range(rows if rows > 1 else 1):
            z = 0.08 + (row + 0.5) * (h - 0.08) / rows
            size = (0.12, 0.03, 0.02) if rows > 1 else (0.02, 0.03, 0.16)
            solids.append(box((x, d / 2 + 0.015, z), size, palette.METAL))
    return Piece(solids + _clutter(rng, w * 0.8, d * 0.6, h, 3 if h < 1.3 else 1), w, d, h + 0.2)


def bed(rng: np.random.Generator) -> Piece:
    """A bed with its head at −y."""
    w, d, h = rng.uniform((0.9, 1.9, 0.4), (1.8, 2.1, 0.6)).tolist()
    frame, cover, linen = palette.wood(rng), palette.fabric(rng), palette.WHITE
    if rng.random() < 0.5:
        linen = palette.fabric(rng)
    solids = [box((0, 0, 0.17), (w, d, 0.22), frame),
              box((0, 0, h - 0.13), (w - 0.04, d - 0.06, 0.24), linen),
              box((0, 0.12 * d, h - 0.09), (w + 0.03, d * 0.74, 0.22), cover),
              box((0, -d / 2 + 0.02, 0.45), (w, 0.05, float(rng.uniform(0.7, 1.1))), frame)]  # fmt: skip
    pillows = 1 if w < 1.3 else 2
    for p in range(pillows):
        x = (p - (pillows - 1) / 2) * w / pillows
        pillow = box((x, -d / 2 + 0.28, h + 0.05), (0.6, 0.38, 0.12), palette.fabric(rng))
        solids.append(replace(pillow, yaw=float(rng.normal(0, 0.1))))
    return Piece(solids, w, d, 1.0)


def sofa(rng: np.random.Generator) -> Piece:
    """A sofa or, when narrow, an armchair, facing +y."""
    w, d, back, arm = rng.uniform((0.8, 0.8, 0.7, 0.12), (2.3, 1.0, 0.95, 0.24)).tolist()
    cloth = palette.fabric(rng)
    solids = [
        box((0, 0, 0.23), (w, d, 0.32), cloth),
        box((0, -d / 2 + 0.11, back / 2 + 0.04), (w, 0.22, back - 0.08), cloth),
    ]
    solids += [box((x, 0, 0.34), (arm, d, 0.54), cloth) for x in (-w / 2 + arm / 2, w / 2 - arm / 2)]
    inner, seats = w - 2 * arm, max(1, round((w - 2 * arm) / 0.65))
    for s in range(seats):
        x = -inner / 2 + (s + 0.5) * inner / seats
        solids.append(box((x, 0.1, 0.44), (inner / seats - 0.015, d - 0.22, 0.12), cloth))
        if rng.random() < 0.5:
            tilt = float(rng.normal(0, 0.25))
            solids.append(box((x, -d / 2 + 0.3, 0.68), (0.4, 0.14, 0.36), palette.fabric(rng), yaw=tilt))
    return Piece(solids, w, d, back)


def stand(rng: np.random.Generator) -> Piece:
    """A low board with a television."""
    w, d, h = rng.uniform((1.0, 0.35, 0.35), (1.8, 0.5, 0.6)).tolist()
    body = palette.wood(rng)
    screen = Material((0.02, 0.02, 0.025), gloss=0.9)
    if rng.random() < 0.4:
        screen = replace(palette.painting(rng), glow=0.5)
    wide = float(rng.uniform(0.6, 0.95)) * w
    solids = [box((0, 0, h / 2), (w, d, h), body, front=palette.panels(rng, body, 3 / w, 1 / h)),
              box((0, 0, h + 0.03), (0.3, 0.2, 0.06), palette.BLACK),
              box((0, 0, h + 0.06 + wide * 0.28), (wide, 0.05, wide * 0.56), palette.BLACK,
                  front=screen)]  # fmt: skip
    return Piece(solids, w, d, h + wide * 0.6)


def lamp(rng: np.random.Generator) -> Piece:
    """A floor lamp."""
    h, radius = rng.uniform((1.2, 0.13), (1.75, 0.24)).tolist()
    shade = Material(palette.color(rng, 0.7, 0.25), glow=float(rng.uniform(0.0, 1.5)))
    solids = [
        cylinder((0, 0, 0.015), 0.14, 0.03, palette.METAL),
        cylinder((0, 0, h / 2), 0.018, h, palette.METAL),
    ]
    if rng.random() < 0.3:
        solids.append(sphere((0, 0, h), radius * 0.8, shade))
    else:
        solids.append(cylinder((0, 0, h), radius, radius * 1.3, shade))
    return Piece(solids, 2 * radius, 2 * radius, h + 0.2)


def plant(rng: np.random.Generator) -> Piece:
    """A pot with a bush of balls and blades."""
    radius, pot, size = rng.uniform((0.1, 0.18, 0.1), (0.2, 0.4, 0.19)).tolist()
    leaf = Material((0.05, 0.16, 0.04), grain=0.9, grain_scale=(35.0, 35.0))
    solids = [cylinder((0, 0, pot / 2), radius, pot, palette.plastic(rng))]
    if rng.random() < 0.6:
        stem = float(rng.uniform(0.1, 0.8))
        solids.append(cylinder((0, 0, pot + stem / 2), 0.02, stem, palette.wood(rng)))
        for x, y, z, r in rng.uniform((-1, -1, -0.3, 0.6), (1, 1, 1.2, 1.0), (7, 4)).tolist():
            solids.append(sphere((x * size, y * size, pot + stem + z * size), r * size, leaf))
        return Piece(solids, 4 * size, 4 * size, pot + stem + 0.4)
    for turn, out, tall in rng.uniform((0, 0.3, 0.3), (6.3, 1.0, 0.9), (9, 3)).tolist():
        x, y = out * radius * float(np.cos(turn)), out * radius * float(np.sin(turn))
        solids.append(box((x, y, pot + tall / 2), (0.05, 0.012, tall), leaf, yaw=turn))
    return Piece(solids, 2 * radius, 2 * radius, pot + 0.9)


def oddment(rng: np.random.Generator) -> Piece:
    """A bin, a ball, a stool or parcels on the floor."""
    kind = rng.random()
    if kind < 0.25:
        r, h = rng.uniform((0.12, 0.25), (0.2, 0.6)).tolist()
        return Piece([cylinder((0, 0, h / 2), r, h, palette.plastic(rng))], 2 * r, 2 * r, h)
    if kind < 0.45:
        r = float(rng.uniform(0.08, 0.34))
        ball = replace(palette.fabric(rng), gloss=0.4)
        return Piece([sphere((0, 0, r), r, ball)], 2 * r, 2 * r, 2 * r)
    if kind < 0.6:
        r, h = rng.uniform((0.15, 0.4), (0.28, 0.5)).tolist()
        return Piece([cylinder((0, 0, h / 2), r, h, palette.fabric(rng))], 2 * r, 2 * r, h)
    w, d, h = rng.uniform((0.25, 0.25, 0.2), (0.6, 0.5, 0.5)).tolist()
    brown = palette.cardboard(rng)
    solids = [box((0, 0, h / 2), (w, d, h), brown)]
    if rng.random() < 0.5:
        turn = float(rng.normal(0, 0.3))
        solids.append(box((0, 0, 1.35 * h), (0.7 * w, 0.8 * d, 0.7 * h), palette.cardboard(rng), yaw=turn))
    return Piece(solids, w, d, 1.7 * h)


AT_WALL: tuple[Builder, ...] = (bookcase, cupboard, cupboard, bed, sofa, stand, bookcase, table)
ANYWHERE: tuple[Builder, ...] = (table, chair, oddment, oddment, sofa, chair, plant, lamp)
