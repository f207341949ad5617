"""A random furnished room from a seed: its size, the camera in it, what hangs and stands there, the light."""

from __future__ import annotations

import numpy as np

from glpn_deploy.datasets.rendering import furniture, palette
from glpn_deploy.datasets.rendering.hangings import hangings, on_wall
from glpn_deploy.datasets.rendering.scene import (
    Camera,
    Finish,
    Light,
    Material,
    Room,
    Scene,
    Solid,
    Vec3,
    box,
    cylinder,
    sphere,
)

MAX_DEPTH = 10.0  # [m] no two points of a room are further apart
CAMERA_HEIGHT = (1.25, 1.55)  # [m] above the floor
CAMERA_PITCH = (-0.436, 0.262)  # [rad] upwards; most cameras look down a little
CAMERA_FOV = (float(np.radians(56.0)), float(np.radians(64.0)))  # [rad] horizontal
_CLEARANCE = 0.55  # [m] between the camera and any piece
_Rect = tuple[float, float, float, float]


def random_scene(rng: np.random.Generator) -> Scene:
    """Draws a whole room; every draw comes from ``rng``."""
    room = _room(rng)
    camera = _camera(rng, room)
    taken: list[_Rect] = []
    solids = _alcove(rng, room, camera, taken)
    solids += hangings(rng, room)
    solids += _furnish(rng, room, camera, taken)
    lights, fixtures = _lights(rng, room, camera)
    tone = rng.uniform((0.86, -0.02), (1.12, 0.02)).tolist()
    finish = Finish(
        ambient=_warmth(float(rng.uniform(0.12, 0.4)), float(rng.uniform(-0.3, 0.3))),
        exposure=float(rng.uniform(0.4, 0.64)),
        balance=(tone[0] ** 0.5, 1.0 + tone[1], tone[0] ** -0.5),
        vignette=float(rng.uniform(0.0, 0.3)),
        noise=float(rng.uniform(0.0, 0.012)),
        blur=float(rng.uniform(0.1, 0.4)),
        contrast=float(rng.uniform(0.9, 1.2)),
    )
    return Scene(room, tuple(solids + fixtures), tuple(lights), camera, finish)


def _warmth(strength: float, warm: float) -> Vec3:
    return (strength * (1 + 0.4 * warm), strength, strength * (1 - 0.7 * warm))


def _room(rng: np.random.Generator) -> Room:
    """A box whose diagonal stays below the largest depth."""
    w, d, h = rng.uniform((2.6, 2.8, 2.35), (7.0, 9.0, 3.2)).tolist()
    shrink = min(1.0, float(np.sqrt((MAX_DEPTH - 0.02) ** 2 - h * h)) / float(np.hypot(w, d)))
    wall = palette.wall(rng)
    walls = [wall, wall, wall, wall]
    if rng.random() < 0.35:  # one wall in another color
        walls[int(rng.integers(4))] = palette.wall(rng)
    white = float(rng.uniform(0.6, 0.85))
    ceiling = Material((white, white, white * 0.97), grain=0.06, grain_scale=(18.0, 18.0))
    skirting = float(rng.uniform(0.06, 0.14)) if rng.random() < 0.7 else 0.0
    board = (0.72, 0.72, 0.7) if rng.random() < 0.7 else palette.wood(rng).color
    return Room(
        (w * shrink, d * shrink, h),
        (walls[0], walls[1], walls[2], walls[3]),
        palette.floor(rng),
        ceiling,
        skirting,
        board,
    )


def _camera(rng: np.random.Generator, room: Room) -> Camera:
    """A robot's camera, with at least 0.6 m before it in every direction it sees, up to a square image.

    Height and lens vary as much as mounts and makes of one kind of robot do, and no more: NYU and KITTI
    come from one camera each, and where both vary freely one image no longer tells how large a room is.
    """
    tries = 48
    low = (0.25, 0.25, CAMERA_HEIGHT[0], -np.pi, CAMERA_FOV[0])
    high = (room.size[0] - 0.25, room.size[1] - 0.25, CAMERA_HEIGHT[1], np.pi, CAMERA_FOV[1])
    drawn = rng.uniform(low, high, (tries, 5))
    pitches = np.clip(rng.normal(-0.16, 0.13, tries), *CAMERA_PITCH)
    rolls = rng.normal(0.0, 0.02, tries)
    patience = int(rng.integers(1, 6))
    best, best_view, passed = 0, -1.0, 0
    for i in range(tries):
        camera = _camera_from(drawn[i], float(pitches[i]), float(rolls[i]))
        reach = np.tan(camera.fov / 2)
        rays = np.array([(x * reach, y * reach, 1.0) for x in (-1, 0, 1) for y in (-1, 0, 1)]) @ camera.axes()
        position = np.array(camera.position)
        walls = np.where(rays > 0, np.array(room.size) - position, -position)
        depths = (walls / np.where(np.abs(rays) < 1e-9, 1e-9, rays)).min(axis=1)
        view = float(depths[[1, 4, 7]].mean()) if depths.min() > 0.6 else float(depths.min()) - 1.0
        if view > best_view:
            best, best_view = i, view
        passed += depths.min() > 0.6 and view > 2.0
        if passed >= patience:
            break
    return _camera_from(drawn[best], float(pitches[best]), float(rolls[best]))


def _camera_from(row: np.ndarray[tuple[int], np.dtype[np.float64]], pitch: float, roll: float) -> Camera:
    x, y, z, yaw, fov = row.tolist()
    return Camera((x, y, z), yaw, pitch, roll, fov)


def _free(rect: _Rect, room: Room, camera: Camera, taken: list[_Rect], height: float) -> bool:
    """Whether a footprint lies in the room, off the others and off the camera."""
    x0, y0, x1, y1 = rect
    if x0 < 0.01 or y0 < 0.01 or x1 > room.size[0] - 0.01 or y1 > room.size[1] - 0.01:
        return False
    if any(x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for b in taken):
        return False
    dx = max(x0 - camera.position[0], camera.position[0] - x1, 0.0)
    dy = max(y0 - camera.position[1], camera.position[1] - y1, 0.0)
    dz = max(camera.position[2] - height, 0.0)
    return float(np.hypot(np.hypot(dx, dy), dz)) > _CLEARANCE


def _in_view(x: float, y: float, camera: Camera, margin: float) -> bool:
    """Whether a place on the floor may be seen; what is not costs time and shows nothing."""
    dx, dy = x - camera.position[0], y - camera.position[1]
    ahead = dx * np.cos(camera.yaw) + dy * np.sin(camera.yaw)
    aside = abs(dy * np.cos(camera.yaw) - dx * np.sin(camera.yaw))
    return bool(ahead > 0.2 and aside < ahead * np.tan(camera.fov / 2) + margin)


def _alcove(rng: np.random.Generator, room: Room, camera: Camera, taken: list[_Rect]) -> list[Solid]:
    """Sometimes a corner of the room is missing, a pillar stands, or a beam runs across."""
    solids: list[Solid] = []
    w, d, h = room.size
    kind = rng.random()
    if kind < 0.3:
        a, b = rng.uniform((0.3, 0.3), (0.45 * w, 0.45 * d)).tolist()
        x = a / 2 if rng.random() < 0.5 else w - a / 2
        y = b / 2 if rng.random() < 0.5 else d - b / 2
        rect = (
            max(x - a / 2, 0.011),
            max(y - b / 2, 0.011),
            min(x + a / 2, w - 0.011),
            min(y + b / 2, d - 0.011),
        )
        if _free(rect, room, camera, taken, h):
            solids.append(box((x, y, h / 2), (a, b, h + 0.02), room.walls[0]))
            taken.append(rect)
    elif kind < 0.4:
        x = float(rng.uniform(0.2, 0.8)) * w
        if abs(x - camera.position[0]) > 0.8 or h - 0.3 - camera.position[2] > 0.7:
            solids.append(box((x, d / 2, h - 0.1), (0.22, d + 0.02, 0.24), room.ceiling))
    return solids


def _furnish(rng: np.random.Generator, room: Room, camera: Camera, taken: list[_Rect]) -> list[Solid]:
    """Stands furniture along the walls, then in the room, where it may be seen."""
    solids: list[Solid] = []
    w, d, _ = room.size
    if rng.random() < 0.4:
        a, b = rng.uniform((1.0, 0.8), (min(2.6, w - 0.5), min(2.0, d - 0.5))).tolist()
        x, y = rng.uniform((a / 2, b / 2), (w - a / 2, d - b / 2)).tolist()
        solids.append(box((x, y, 0.006), (a, b, 0.012), palette.fabric(rng)))
    area = w * d
    wanted_wall, wanted_free = int(3 + area / 7), int(rng.integers(2, 4 + int(area / 6)))
    for attempt in range(36):
        at_wall = attempt < 20
        if (wanted_wall if at_wall else wanted_free) <= 0:
            continue
        side = int(rng.integers(4))
        along, aside, turn = rng.random(3).tolist()
        if at_wall:
            x, y, yaw = on_wall(room, side, along * (d if side < 2 else w))
        else:
            x, y, yaw = along * w, aside * d, turn * 2 * np.pi
        if not _in_view(x, y, camera, 0.8):
            continue
        builders = furniture.AT_WALL if at_wall else furniture.ANYWHERE
        piece = builders[int(rng.integers(len(builders)))](rng)
        if at_wall:
            out = piece.depth / 2 + 0.06 + 0.04 * aside
            x, y = x - out * np.sin(yaw), y + out * np.cos(yaw)
            yaw += 0.0 if turn < 0.7 else 0.12 * (turn - 0.85)
        cos, sin = abs(np.cos(yaw)), abs(np.sin(yaw))
        a, b = (cos * piece.width + sin * piece.depth) / 2, (sin * piece.width + cos * piece.depth) / 2
        rect = (x - a, y - b, x + a, y + b)
        if piece.height > room.size[2] - 0.1 or not _free(rect, room, camera, taken, piece.height):
            continue
        taken.append(rect)
        solids += furniture.place(piece.solids, float(x), float(y), float(yaw))
        if at_wall:
            wanted_wall -= 1
        else:
            wanted_free -= 1
    return solids


def _lights(rng: np.random.Generator, room: Room, camera: Camera) -> tuple[list[Light], list[Solid]]:
    """One or two lamps under the ceiling with their fixtures, and often light from a window side."""
    w, d, h = room.size
    lights: list[Light] = []
    fixtures: list[Solid] = []
    count = 1 if w * d < 18 or rng.random() < 0.5 else 2
    for k in range(count):
        x, y = rng.uniform(
            (0.3 * w, (0.25 + 0.5 * k / count) * d), (0.7 * w, (0.45 + 0.5 * k / count) * d)
        ).tolist()
        power = _warmth(float(rng.uniform(1.5, 4.0)), float(rng.uniform(-0.1, 0.8)))
        glow = Material((0.9, 0.88, 0.8), glow=3.0)
        drop = 0.05
        if rng.random() < 0.35:
            fixtures.append(cylinder((x, y, h - 0.03), 0.2, 0.06, glow))
            drop = 0.12
        elif rng.random() < 0.5 and np.hypot(x - camera.position[0], y - camera.position[1]) > 0.9:
            drop = float(rng.uniform(0.35, 0.8)) * min(1.0, h - 2.0)
            fixtures.append(cylinder((x, y, h - drop / 2), 0.008, drop, palette.BLACK))
            fixtures.append(sphere((x, y, h - drop), float(rng.uniform(0.09, 0.18)), glow))
            drop += 0.2
        lights.append(
            Light((x, y, h - drop), (0.0, 0.0, -1.0), power, softness=float(rng.uniform(0.03, 0.1)))
        )
    if rng.random() < 0.55:
        side = int(rng.integers(4))
        x, y, yaw = on_wall(room, side, float(rng.uniform(0.25, 0.75)) * (d if side < 2 else w))
        inward = (float(-np.sin(yaw)), float(np.cos(yaw)), 0.0)
        place = (x + 0.15 * inward[0], y + 0.15 * inward[1], float(rng.uniform(1.3, 1.8)))
        power = _warmth(float(rng.uniform(3.0, 9.0)), float(rng.uniform(-0.5, 0.1)))
        lights.append(Light(place, inward, power, directed=True, softness=float(rng.uniform(0.08, 0.2))))
    return lights, fixtures
