"""Rendered rooms: depth against intersections worked out by hand and by a slow scalar ray caster."""

import math

import numpy as np
import pytest

from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.datasets.rendering.layout import random_scene
from glpn_deploy.datasets.rendering.scene import (
    Camera,
    Kind,
    Light,
    Material,
    Room,
    Scene,
    Solid,
    box,
    cylinder,
    sphere,
)
from glpn_deploy.datasets.rooms import SPLIT_SIZE, SPLIT_START, RenderedRooms, render_room, render_scene
from glpn_deploy.errors import DatasetError, InputError
from tests.refusals import refused

GREY = Material((0.5, 0.5, 0.5))
ROOM = Room((6.0, 8.0, 3.0), (GREY, GREY, GREY, GREY), GREY, GREY)
HEIGHT, WIDTH = 33, 45  # odd, so that one pixel looks straight ahead
MIDDLE = (HEIGHT // 2, WIDTH // 2)


def depth_of(*solids: Solid, camera: Camera) -> np.ndarray:
    lamp = Light((3.0, 4.0, 2.9), (0.0, 0.0, -1.0), (3.0, 3.0, 3.0))
    return render_scene(Scene(ROOM, solids, (lamp,), camera), HEIGHT, WIDTH).depth


def level(y: float = 4.0, z: float = 1.5) -> Camera:
    """A camera half a metre from the wall at x = 0 that looks straight along +x."""
    return Camera((0.5, y, z), fov=math.radians(60))


def offsets(row: int, column: int) -> tuple[float, float]:
    """Right and down offset of a pixel's ray at distance 1, for `level`'s field of view."""
    step = 2 * math.tan(math.radians(30)) / WIDTH
    return (column - MIDDLE[1]) * step, (row - MIDDLE[0]) * step


def test_a_wall_straight_ahead_is_flat_in_z_depth():
    depth = depth_of(camera=level())
    wall = depth[9:24]  # rows in which neither floor nor ceiling is seen: 1.5 m / 5.5 m of offset
    assert wall == pytest.approx(np.full_like(wall, 5.5), abs=1e-5)


def test_the_floor_follows_the_height_of_the_camera():
    depth = depth_of(camera=level(z=0.8))
    _, down = offsets(HEIGHT - 1, 0)
    assert depth[-1] == pytest.approx(np.full(WIDTH, 0.8 / down), abs=1e-5)


def test_a_pitched_camera_measures_along_its_own_axis():
    pitch = math.radians(-30)
    depth = depth_of(camera=Camera((0.5, 4.0, 1.5), pitch=pitch, fov=math.radians(50)))
    assert depth[MIDDLE] == pytest.approx(1.5 / math.sin(-pitch), abs=1e-5)


def test_sphere_ahead_and_beside():
    ball = sphere((3.5, 4.0, 1.5), 0.5, GREY)
    depth = depth_of(ball, camera=level())
    assert depth[MIDDLE] == pytest.approx(2.5, abs=1e-6)
    right, down = offsets(MIDDLE[0] - 2, MIDDLE[1] + 3)
    a, b, c = right**2 + down**2 + 1, -2 * 3.0, 3.0**2 - 0.5**2
    assert depth[MIDDLE[0] - 2, MIDDLE[1] + 3] == pytest.approx(
        (-b - math.sqrt(b * b - 4 * a * c)) / (2 * a), abs=1e-6
    )


def test_cylinder_side_and_cap():
    tin = cylinder((2.5, 4.0, 0.5), 0.4, 1.0, GREY)
    assert depth_of(tin, camera=level(z=0.7))[MIDDLE] == pytest.approx(2.0 - 0.4, abs=1e-6)
    above = depth_of(tin, camera=level(z=1.5))
    row = MIDDLE[0] + 10
    _, down = offsets(row, 0)
    assert abs(0.5 / down - 2.0) < 0.4  # this ray meets the cap, at z = 1
    assert above[row, MIDDLE[1]] == pytest.approx(0.5 / down, abs=1e-6)


def test_oriented_box_shows_its_edge():
    side = 1.0
    crate = box((3.5, 4.0, 1.5), (side, side, side), GREY, yaw=math.radians(45))
    depth = depth_of(crate, camera=level())
    edge = 3.0 - side / math.sqrt(2)
    assert depth[MIDDLE] == pytest.approx(edge, abs=1e-5)
    right, _ = offsets(0, MIDDLE[1] + 4)  # the face runs away at 45°: z = edge + right·z
    assert depth[MIDDLE[0], MIDDLE[1] + 4] == pytest.approx(edge / (1 - right), abs=1e-5)


def test_what_is_nearer_hides_what_is_behind_in_either_order():
    near, far = sphere((2.0, 4.0, 1.5), 0.3, GREY), box((4.0, 4.0, 1.5), (0.5, 2.0, 2.0), GREY)
    first, second = depth_of(near, far, camera=level()), depth_of(far, near, camera=level())
    assert first[MIDDLE] == pytest.approx(1.2, abs=1e-6)
    np.testing.assert_array_equal(first, second)


def test_nearer_than_the_range_is_invalid():
    depth = depth_of(box((0.8, 4.0, 1.5), (0.2, 1.0, 1.0), GREY), camera=level())
    assert depth[MIDDLE] == 0.0


def scalar_depth(scene: Scene, height: int, width: int, row: int, column: int) -> float:
    """One ray in plain Python: candidate points on every surface, each tested for lying on the solid."""
    cam = scene.camera
    focal = width / (2 * math.tan(cam.fov / 2))
    x, y = (column + 0.5 - width / 2) / focal, (row + 0.5 - height / 2) / focal
    x, y = x * math.cos(cam.roll) - y * math.sin(cam.roll), x * math.sin(cam.roll) + y * math.cos(cam.roll)
    ahead = math.cos(cam.pitch) + y * math.sin(cam.pitch)  # horizontal part along the yaw
    up = math.sin(cam.pitch) - y * math.cos(cam.pitch)
    ray = (
        ahead * math.cos(cam.yaw) + x * math.sin(cam.yaw),
        ahead * math.sin(cam.yaw) - x * math.cos(cam.yaw),
        up,
    )
    best = min(
        ((size if d > 0 else 0.0) - o) / d
        for o, d, size in zip(cam.position, ray, scene.room.size, strict=True)
    )
    for solid in scene.solids:
        c, s = math.cos(solid.yaw), math.sin(solid.yaw)
        off = [o - m for o, m in zip(cam.position, solid.center, strict=True)]
        o = (c * off[0] + s * off[1], c * off[1] - s * off[0], off[2])
        d = (c * ray[0] + s * ray[1], c * ray[1] - s * ray[0], ray[2])
        candidates: list[float] = []
        if solid.kind != Kind.SPHERE:
            planes = range(3) if solid.kind == Kind.BOX else (2,)
            for axis in planes:
                for side in (-solid.half[axis], solid.half[axis]):
                    t = (side - o[axis]) / d[axis]
                    at = [p + t * q for p, q in zip(o, d, strict=True)]
                    if solid.kind == Kind.BOX:
                        on = all(abs(at[k]) <= solid.half[k] for k in range(3) if k != axis)
                    else:
                        on = math.hypot(at[0], at[1]) <= solid.half[0]
                    if on:
                        candidates.append(t)
        if solid.kind != Kind.BOX:
            n = 3 if solid.kind == Kind.SPHERE else 2
            a = sum(q * q for q in d[:n])
            b = 2 * sum(p * q for p, q in zip(o[:n], d[:n], strict=True))
            root = b * b - 4 * a * (sum(p * p for p in o[:n]) - solid.half[0] ** 2)
            if root >= 0:
                for t in ((-b - math.sqrt(root)) / (2 * a), (-b + math.sqrt(root)) / (2 * a)):
                    if n == 3 or abs(o[2] + t * d[2]) <= solid.half[2]:
                        candidates.append(t)
        best = min([best, *(t for t in candidates if t > 0.02)])
    return best


@pytest.mark.parametrize("seed", [3, SPLIT_SIZE + 8, 2 * SPLIT_SIZE + 4, 2 * SPLIT_SIZE + 14])
def test_furnished_rooms_agree_with_a_scalar_ray_caster(seed):
    height, width = 48, 64
    room = render_room(seed, height, width)
    slow = np.array(
        [
            [scalar_depth(room.scene, height, width, r, c) for c in range(1, width, 4)]
            for r in range(1, height, 4)
        ]
    )
    fast = room.depth[1::4, 1::4]
    agree = np.abs(fast - slow) < 1e-3
    assert agree.mean() >= 0.995  # a ray that grazes an edge may fall to either side in float32
    assert np.abs(fast - slow)[agree].max() < 2e-4


def test_the_same_seed_gives_the_same_bytes():
    first, second = render_room(11, 48, 64), render_room(11, 48, 64)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.depth.tobytes() == second.depth.tobytes()
    assert first.image.tobytes() != render_room(12, 48, 64).image.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_the_scene_does_not_depend_on_the_resolution(seed):
    coarse, fine = render_room(seed, 40, 56), render_room(seed, 120, 168)
    same_rays = fine.depth[1::3, 1::3]
    assert (np.abs(coarse.depth - same_rays) < 1e-3).mean() > 0.995
    assert coarse.scene == fine.scene
    small = fine.image.reshape(40, 3, 56, 3, 3).mean(axis=(1, 3))
    assert np.abs(small - coarse.image).mean() < 12


def test_types_and_range():
    for seed in range(12):
        room = render_room(seed, 48, 64)
        assert room.image.dtype == np.uint8
        assert room.image.shape == (48, 64, 3)
        assert room.depth.dtype == np.float32
        assert room.depth.shape == (48, 64)
        assert room.depth.max() <= 10.0
        assert room.depth.min() >= 0.3
        assert 30 < room.image.mean() < 220
        assert room.image.std() > 4


def test_the_camera_is_drawn_within_its_limits():
    for seed in range(60):
        scene = random_scene(np.random.Generator(np.random.PCG64(seed)))
        camera = scene.camera
        assert 1.25 <= camera.position[2] <= 1.55
        assert math.radians(-25) <= camera.pitch <= math.radians(15.1)
        assert math.radians(56) <= camera.fov <= math.radians(64)
        assert math.hypot(*scene.room.size) <= 10.0


def test_splits_are_disjoint_and_samples_are_named_by_their_seed():
    assert sorted(SPLIT_START.values()) == [0, SPLIT_SIZE, 2 * SPLIT_SIZE]
    names = set()
    for split in ("train", "val", "test"):
        rooms = RenderedRooms(split, 3, height=32, width=32)
        assert len(rooms) == 3
        names |= {sample.name for sample in rooms}
    assert len(names) == 9
    with pytest.raises(DatasetError):
        RenderedRooms("train", 2, start=SPLIT_SIZE - 1)


def test_a_sample_is_the_room_of_its_seed():
    rooms = RenderedRooms("test", 5, height=32, width=48, start=7)
    sample = rooms[2]
    assert isinstance(sample, DepthSample)
    expected = render_room(2 * SPLIT_SIZE + 9, 32, 48)
    np.testing.assert_array_equal(sample.image, expected.image)
    np.testing.assert_array_equal(sample.depth, expected.depth)
    np.testing.assert_array_equal(rooms[-3].depth, expected.depth)
    assert (rooms.name, rooms.max_depth, rooms.crop) == ("rooms", 10.0, None)


def test_wrong_use_is_told_plainly():
    with refused(DatasetError, got="no split 'valid'", expected="train, val or test"):
        RenderedRooms("valid", 3)
    with refused(DatasetError, expected="at least one"):
        RenderedRooms("train", 0)
    with refused(InputError, got="8 × 64 pixels", expected="whole numbers from 16"):
        RenderedRooms("train", 3, height=8, width=64)
    with refused(InputError, got="seed is -1"):
        render_room(-1, 32, 32)
    rooms = RenderedRooms("train", 3, height=32, width=32)
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            rooms[beyond]
    with refused(InputError, expected="all above 0"):
        depth_of(sphere((3.0, 4.0, 1.0), 0.0, GREY), camera=level())
