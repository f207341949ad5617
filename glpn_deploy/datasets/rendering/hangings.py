"""What is fixed to the walls of a rendered room: doors, windows, curtains, radiators and pictures."""

from __future__ import annotations

import numpy as np

from glpn_deploy.datasets.rendering import palette
from glpn_deploy.datasets.rendering.furniture import place
from glpn_deploy.datasets.rendering.scene import Material, Pattern, Room, Solid, box


def on_wall(room: Room, side: int, along: float) -> tuple[float, float, float]:
    """Place and turn of something ``along`` wall ``side`` (0–3: x=0, x=max, y=0, y=max) facing inwards."""
    w, d, _ = room.size
    places = (
        (0.0, along, -np.pi / 2),
        (w, along, np.pi / 2),
        (along, 0.0, 0.0),
        (along, d, np.pi),
    )
    return places[side]


def hangings(rng: np.random.Generator, room: Room) -> list[Solid]:
    """Doors, windows with frames and curtains, pictures, radiators; three slots a wall."""
    solids: list[Solid] = []
    for side in range(4):
        length = room.size[1] if side < 2 else room.size[0]
        slots = max(1, int(length / 1.5))
        for slot in range(slots):
            kind = rng.random()
            span = length / slots
            x, y, yaw = on_wall(room, side, (slot + 0.5) * span)
            if kind < 0.14:
                things = _door(rng)
            elif kind < 0.34:
                things = _window(rng, min(span * 0.85, float(rng.uniform(0.8, 1.9))), room.size[2])
            elif kind < 0.7:
                things = _pictures(rng, span)
            else:
                continue
            solids += place(things, x, y, yaw)
    return solids


def _door(rng: np.random.Generator) -> list[Solid]:
    w, h = rng.uniform((0.75, 1.95), (0.95, 2.1)).tolist()
    leaf = palette.wood(rng) if rng.random() < 0.6 else palette.WHITE
    frame = palette.WHITE if rng.random() < 0.6 else leaf
    front = palette.panels(rng, leaf, 1 / w, (1.0 if rng.random() < 0.4 else 2.0) / h)
    return [
        box((0, 0.015, h / 2), (w, 0.03, h), leaf, front=front),
        box((-w / 2 - 0.04, 0.025, h / 2), (0.08, 0.05, h), frame),
        box((w / 2 + 0.04, 0.025, h / 2), (0.08, 0.05, h), frame),
        box((0, 0.025, h + 0.04), (w + 0.16, 0.05, 0.08), frame),
        box((0.4 * w, 0.06, 1.02), (0.1, 0.03, 0.025), palette.METAL),
    ]


def _window(rng: np.random.Generator, w: float, ceiling: float) -> list[Solid]:
    sill = float(rng.uniform(0.5, 1.0))
    h = min(float(rng.uniform(0.9, 1.5)), ceiling - sill - 0.2)
    z = sill + h / 2
    frame = palette.WHITE if rng.random() < 0.75 else palette.wood(rng)
    solids = [
        box((0, 0.01, z), (w, 0.02, h), frame, front=palette.daylight(rng)),
        box((0, 0.03, sill + h), (w + 0.06, 0.05, 0.06), frame),
        box((0, 0.07, sill), (w + 0.12, 0.14, 0.04), frame),
    ]
    bars = int(rng.integers(2, 5))
    solids += [box((-w / 2 + w * b / (bars - 1), 0.03, z), (0.05, 0.05, h), frame) for b in range(bars)]
    if rng.random() < 0.45:
        cloth = palette.fabric(rng)
        tall = min(sill + h + 0.15, ceiling - 0.05) - 0.05
        folds = Material(cloth.color, palette.darker(cloth.color, 0.7), Pattern.STRIPES, (14.0, 1.0), 0.5)
        for x in (-w / 2 - 0.1, w / 2 + 0.1):
            solids.append(box((x, 0.09, 0.05 + tall / 2), (0.34, 0.08, tall), folds))
    elif rng.random() < 0.5:
        solids.append(
            box((0, 0.08, 0.38), (min(w, 1.1), 0.1, 0.5), palette.panels(rng, palette.WHITE, 9.0, 2.0))
        )
    return solids


def _pictures(rng: np.random.Generator, span: float) -> list[Solid]:
    solids: list[Solid] = []
    count = int(rng.integers(1, 3))
    for k in range(count):
        w, h, z, x = rng.uniform((0.25, 0.25, 1.3, -0.08), (0.9, 0.8, 1.8, 0.08)).tolist()
        w = min(w, 0.8 * span / count)
        x += (k + 0.5) / count - 0.5
        frame = palette.BLACK if rng.random() < 0.4 else palette.wood(rng)
        solids += [
            box((x * span, 0.0125, z), (w, 0.025, h), frame),
            box((x * span, 0.015, z), (w - 0.07, 0.03, h - 0.07), frame, front=palette.painting(rng)),
        ]
    return solids
