"""From hits to a photograph: lamps with soft shadows, corners that darken, then lens and sensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from glpn_deploy.datasets.rendering.scene import Finish, Floats, Ints, Kind, Light, Room, Scene
from glpn_deploy.datasets.rendering.textures import MaterialTable, reflectance
from glpn_deploy.datasets.rendering.tracing import SolidTable, View, trace

_SHADOW_SIDE = 160  # rays along each side of a shadow map
_LUMA = (0.30, 0.59, 0.11)


def shade(
    scene: Scene,
    table: SolidTable,
    view: View,
    depth: npt.NDArray[np.float32],
    hit_row: Ints,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Colors a traced view.

    Args:
        depth: (H, W) float32 [m], from `trace`.
        hit_row: (H, W), from `trace`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    z, row = depth.ravel(), hit_row.ravel().astype(np.intp)
    rays = [
        ((axis[0] * view.xs)[None, :] + (axis[1] * view.ys + axis[2])[:, None]).astype(np.float32).ravel()
        for axis in view.axes.T
    ]
    point = [ray * z + float(o) for ray, o in zip(rays, view.origin, strict=True)]
    length = 1.0 / np.sqrt(rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2])
    to_eye = [-ray * length for ray in rays]
    normal, face, u, v = _surface(table, row, point)
    facing = normal[0] * to_eye[0] + normal[1] * to_eye[1] + normal[2] * to_eye[2]
    pixel = z * float(view.xs[1] - view.xs[0]) / np.sqrt(np.clip(facing, 0.04, 1.0))
    materials = MaterialTable.of(table.materials)
    material = table.material.ravel().take(row * 6 + face)
    albedo = reflectance(materials, material, u, v, pixel)
    _skirting(scene.room, row, face, point[2], albedo)

    openness = _openness(scene.room, table, point, normal)
    bounce = openness * (1.0 - 0.2 * normal[2])  # lamps light the floor, the floor lights the ceiling
    light: list[Floats] = [bounce * strength for strength in scene.finish.ambient]
    gleam: list[Floats] = [np.zeros_like(z) for _ in range(3)]
    glossy = np.flatnonzero(materials.gloss.take(material) > 0)
    lit = np.array([any(table.materials[f].glow > 0 for f in faces) for faces in table.material])
    lit[0] = True
    lit |= table.half.max(axis=1) < 0.05  # too small for a shadow worth its time
    for lamp in scene.lights:
        _add_lamp(lamp, table, lit, point, normal, to_eye, glossy, light, gleam)
    gloss, glow = materials.gloss.take(material), materials.glow.take(material)
    color = [a * (e + glow) + s * gloss for a, e, s in zip(albedo, light, gleam, strict=True)]
    return _develop([c.reshape(depth.shape) for c in color], scene.finish, rng)


def _surface(table: SolidTable, row: Ints, point: list[Floats]) -> tuple[list[Floats], Ints, Floats, Floats]:
    """Outward normal, face (0–5 for −x +x −y +y −z +z) and place on the face, for every pixel."""
    center, half = table.center.astype(np.float32), table.half.astype(np.float32)
    cos, sin = np.cos(table.yaw).astype(np.float32).take(row), np.sin(table.yaw).astype(np.float32).take(row)
    dx, dy = point[0] - center[:, 0].take(row), point[1] - center[:, 1].take(row)
    local = [cos * dx + sin * dy, cos * dy - sin * dx, point[2] - center[:, 2].take(row)]
    reach = [half[:, i].take(row) for i in range(3)]
    out = [p / r for p, r in zip(local, reach, strict=True)]
    size = [np.abs(o) for o in out]
    kind = table.kind.take(row)
    tall = size[2] > np.maximum(size[0], size[1])
    axis = np.where(tall, np.int8(2), (size[1] > size[0]).astype(np.int8))
    own = [np.where(axis == i, np.sign(out[i]), np.float32(0.0)) for i in range(3)]
    side = np.where(tall, out[2], np.where(axis == 1, out[1], out[0])) > 0
    u = np.where(axis == 0, local[1] + reach[1], local[0] + reach[0])
    v = np.where(tall, local[1] + reach[1], local[2] + reach[2])
    face = (axis * 2 + side).astype(np.intp)
    round_ = np.flatnonzero(kind >= Kind.SPHERE)
    if round_.size:
        ball = kind[round_] == Kind.SPHERE
        across = np.hypot(out[0][round_], out[1][round_])
        cap = ~ball & (size[2][round_] > across)
        flat = 1.0 / np.maximum(np.where(ball, 1.0, across), 1e-6)
        own[0][round_] = np.where(cap, 0.0, out[0][round_] * flat)
        own[1][round_] = np.where(cap, 0.0, out[1][round_] * flat)
        own[2][round_] = np.where(ball, out[2][round_], np.where(cap, np.sign(out[2][round_]), 0.0))
        turn = np.arctan2(out[1][round_], out[0][round_]) * reach[0][round_]
        u[round_] = np.where(cap, local[0][round_], turn)
        v[round_] = np.where(cap, local[1][round_], local[2][round_])
        face[round_] = 0
    normal = [cos * own[0] - sin * own[1], sin * own[0] + cos * own[1], own[2]]
    inside = np.where(kind == Kind.ROOM, np.float32(-1.0), np.float32(1.0))
    for n in normal:
        n *= inside
    shift = (row * np.float32(3.17)) * (kind != Kind.ROOM)  # so that equal pieces do not wear the same grain
    patterned = np.array([m.pattern != 0 for m in table.materials])
    plain = ~patterned.take(table.material.ravel().take(row * 6 + face))
    return normal, face, u + shift * plain, v + (0.7 * shift) * plain


def _skirting(room: Room, row: Ints, face: Ints, z: Floats, albedo: list[Floats]) -> None:
    """Paints the foot of the walls."""
    if room.skirting > 0:
        at = np.flatnonzero((row == 0) & (face < 4) & (z < room.skirting))
        line = np.where(z[at] > 0.92 * room.skirting, np.float32(0.75), np.float32(1.0))
        for channel, value in zip(albedo, room.skirting_color, strict=True):
            channel[at] = value * line


def _openness(room: Room, table: SolidTable, point: list[Floats], normal: list[Floats]) -> Floats:
    """Share of the surrounding light that reaches a point: less in corners and beside furniture."""
    openness = np.ones_like(point[0])
    for axis, size in enumerate(room.size):
        gap = np.minimum(point[axis], size - point[axis])
        openness *= 1.0 - 0.30 * np.exp(np.abs(gap) * -4.5) * (1.0 - np.abs(normal[axis]))
    plan = _floor_plan(room, table)
    side = len(plan) - 1
    at = np.flatnonzero((point[2] < 0.03) & (normal[2] > 0.5))
    if at.size:
        column = np.clip(point[0][at] * float(side / room.size[0]), 0, side - 0.01)
        line = np.clip(point[1][at] * float(side / room.size[1]), 0, side - 0.01)
        openness[at] *= 1.0 - 0.65 * _bilinear(plan, column, line)
    return openness


def _floor_plan(room: Room, table: SolidTable) -> npt.NDArray[np.float32]:
    """How much stands on or just above each place of the floor, blurred; (65, 65) float32, 0–1."""
    nodes = 65
    xs, ys = np.linspace(0, room.size[0], nodes), np.linspace(0, room.size[1], nodes)
    plan = np.zeros((nodes, nodes), dtype=np.float32)
    bottom, top = table.center[:, 2] - table.half[:, 2], table.center[:, 2] + table.half[:, 2]
    span = np.hypot(table.half[:, 0], table.half[:, 1]) + 0.1
    for row in np.flatnonzero((bottom < 0.5) & (top > 0.08)):
        if row == 0:
            continue
        cx, cy = table.center[row, :2].tolist()
        x0, x1 = np.searchsorted(xs, (cx - span[row], cx + span[row])).tolist()
        y0, y1 = np.searchsorted(ys, (cy - span[row], cy + span[row])).tolist()
        dx, dy = xs[None, x0:x1] - cx, ys[y0:y1, None] - cy
        cos, sin = float(np.cos(table.yaw[row])), float(np.sin(table.yaw[row]))
        beyond_x = np.abs(cos * dx + sin * dy) - table.half[row, 0]
        beyond_y = np.abs(cos * dy - sin * dx) - table.half[row, 1]
        cover = np.clip(1.0 - np.maximum(beyond_x, beyond_y) / 0.1, 0.0, 1.0) * (1.0 - bottom[row])
        np.maximum(plan[y0:y1, x0:x1], cover, out=plan[y0:y1, x0:x1], casting="same_kind")
    for _ in range(2):
        plan[1:-1] = 0.25 * plan[:-2] + 0.5 * plan[1:-1] + 0.25 * plan[2:]
        plan[:, 1:-1] = 0.25 * plan[:, :-2] + 0.5 * plan[:, 1:-1] + 0.25 * plan[:, 2:]
    return plan


def _add_lamp(
    lamp: Light,
    table: SolidTable,
    lit: npt.NDArray[np.bool_],
    point: list[Floats],
    normal: list[Floats],
    to_eye: list[Floats],
    glossy: Ints,
    light: list[Floats],
    gleam: list[Floats],
) -> None:
    """Adds one lamp's light to every pixel, and its highlight to the glossy ones."""
    ray = [float(o) - p for o, p in zip(lamp.position, point, strict=True)]
    squared = ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]
    inverse = 1.0 / np.sqrt(squared + 1e-4)
    ray = [r * inverse for r in ray]
    cosine = normal[0] * ray[0] + normal[1] * ray[1] + normal[2] * ray[2]
    strength = np.maximum(cosine, 0.0, out=cosine) / (squared + 0.4)
    if lamp.directed:
        ahead = -(ray[0] * lamp.normal[0] + ray[1] * lamp.normal[1] + ray[2] * lamp.normal[2])
        strength *= np.maximum(ahead, 0.0)
    strength *= _visible(lamp, table, lit, point)
    for channel, power in zip(light, lamp.power, strict=True):
        channel += strength * power
    if glossy.size:
        middle = [r[glossy] + e[glossy] for r, e in zip(ray, to_eye, strict=True)]
        norm = np.sqrt(middle[0] ** 2 + middle[1] ** 2 + middle[2] ** 2) + 1e-6
        shine = sum(m * n[glossy] for m, n in zip(middle, normal, strict=True)) / norm
        for _ in range(5):  # to the power of 32
            shine = shine * shine
        for channel, power in zip(gleam, lamp.power, strict=True):
            channel[glossy] += shine * strength[glossy] * (3.0 * power)


def _visible(lamp: Light, table: SolidTable, lit: npt.NDArray[np.bool_], point: list[Floats]) -> Floats:
    """Share of the lamp that each point sees: 0 in the shadow, 1 outside, between at its edge."""
    forward = np.array(lamp.normal)
    right = np.array([1.0, 0.0, 0.0]) if abs(forward[2]) > 0.5 else np.array([-forward[1], forward[0], 0.0])
    axes = np.stack([right, np.cross(forward, right), forward])
    origin = np.array(lamp.position)
    corners = table.center[0] + table.half[0] * np.array(
        [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    )
    seen = ((corners - origin)[:, None, :] * axes).sum(axis=2)
    ahead = seen[seen[:, 2] > 0.2]
    reach = np.abs(ahead[:, :2] / ahead[:, 2:]).max(axis=0).clip(0.2, 3.0)
    grids = [np.linspace(-r, r, _SHADOW_SIDE) for r in reach.tolist()]
    blockers, _ = trace(View(origin, axes, grids[0], grids[1]), table, skip=lit)
    offset = [p - float(o) for p, o in zip(point, origin, strict=True)]
    away = [sum(float(w) * o for w, o in zip(axis, offset, strict=True) if w) for axis in axes]
    distance = np.maximum(np.asarray(away[2], dtype=np.float32), 0.05)
    last = _SHADOW_SIDE - 1
    at = [(a / distance + r) * float(last / (2 * r)) for a, r in zip(away[:2], reach.tolist(), strict=True)]
    inside = (np.abs(at[0] - last / 2) <= last / 2) & (np.abs(at[1] - last / 2) <= last / 2)
    spread = [lamp.softness * last / (2 * r) for r in reach.tolist()]  # at one metre from the lamp
    middle = np.rint(at[1]).astype(np.intp) * _SHADOW_SIDE + np.rint(at[0]).astype(np.intp)
    limit = distance * 0.98 - 0.025  # so that nothing shades itself
    seen_by = np.zeros(distance.shape, dtype=np.int8)
    for dx, dy in ((-0.35, -0.9), (0.9, -0.35), (0.35, 0.9), (-0.9, 0.35), (0.0, 0.0)):
        step = round(dy * spread[1]) * _SHADOW_SIDE + round(dx * spread[0])
        seen_by += blockers.take(middle + step, mode="clip") > limit
    visible: Floats = np.where(inside, seen_by * np.float32(0.2), np.float32(1.0))
    return visible


def _bilinear(grid: npt.NDArray[np.float32], column: Floats, row: Floats) -> Floats:
    """Values of a grid between its nodes."""
    c, r = column.astype(np.int32), row.astype(np.int32)
    fc, fr = column - c, row - r
    upper = grid[r, c] * (1 - fc) + grid[r, c + 1] * fc
    lower = grid[r + 1, c] * (1 - fc) + grid[r + 1, c + 1] * fc
    mixed: Floats = upper * (1 - fr) + lower * fr
    return mixed


def _develop(color: list[Floats], finish: Finish, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Linear light (three times (H, W)) to an 8-bit photograph."""
    height, width = color[0].shape
    root = np.sqrt(sum((float(w) * c for w, c in zip(_LUMA, color, strict=True)), np.float32(1e-6)))
    gain = finish.exposure**2.2 / float(root.mean()) ** 2  # a bright window weighs less than in the mean
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    lens = 1.0 - (2.0 * finish.vignette) * ((x * x)[None, :] + (y * y)[:, None])
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for channel in range(3):
        value = color[channel] * lens
        value *= float(gain * finish.balance[channel])
        value = value * (1.0 + value * 0.06) / (1.0 + value * 0.55)  # highlights bend over (Reinhard)
        _spill(value, finish.blur)
        np.power(value, np.float32(finish.contrast / 2.2), out=value)
        value += rng.standard_normal((height, width), dtype=np.float32) * float(finish.noise)
        value *= 255.0
        value += 0.5
        picture[..., channel] = np.clip(value, 0.0, 255.0, out=value)
    return picture


def _spill(value: Floats, share: float) -> None:
    """Blurs a channel in place, as a lens does, by three taps along each direction."""
    if share > 0:
        for axis in (value, value.T):
            axis[1:-1] = (1.0 - share) * axis[1:-1] + (0.5 * share) * (axis[:-2] + axis[2:])
