"""From a view of a room to depth: each solid meets only the rays inside its projected bounding box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glpn_deploy.datasets.rendering.scene import Camera, Floats, Kind, Material, Room, Solid
from glpn_deploy.errors import InputError

_NEAR = 0.02  # [m] nothing nearer to the eye is seen
_SIGNS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)])


@dataclass(frozen=True, slots=True)
class SolidTable:
    """The room (row 0) and its solids (rows 1…N) as arrays, one row each.

    Attributes:
        kind: (N+1,) int8, a `Kind`.
        center: (N+1, 3) float64 [m].
        half: (N+1, 3) float64 [m].
        yaw: (N+1,) float64 [rad].
        material: (N+1, 6) int16 rows of ``materials`` for the faces −x, +x, −y, +y, −z, +z.
        materials: The distinct materials.
    """

    kind: npt.NDArray[np.int8]
    center: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]
    yaw: npt.NDArray[np.float64]
    material: npt.NDArray[np.int16]
    materials: tuple[Material, ...]

    @classmethod
    def of(cls, room: Room, solids: tuple[Solid, ...]) -> SolidTable:
        """Lays out ``room`` and ``solids`` as arrays; a solid without extent is an `InputError`."""
        rows: dict[int, int] = {}
        materials: list[Material] = []

        def row(material: Material) -> int:
            found = rows.setdefault(id(material), len(materials))
            if found == len(materials):
                materials.append(material)
            return found

        faces = [[row(m) for m in (*room.walls, room.floor, room.ceiling)]]
        for solid in solids:
            body = row(solid.material)
            faces.append([body, body, body, body if solid.front is None else row(solid.front), body, body])
        middle = (room.size[0] / 2, room.size[1] / 2, room.size[2] / 2)
        half = np.array([middle, *(s.half for s in solids)], dtype=np.float64)
        if not (half > 0).all():
            worst = int(np.flatnonzero(~(half > 0).all(axis=1))[0])
            raise InputError(
                f"solid {worst} of the room has half sizes {half[worst].tolist()} m", expected="all above 0"
            )
        return cls(
            kind=np.array([Kind.ROOM, *(s.kind for s in solids)], dtype=np.int8),
            center=np.array([middle, *(s.center for s in solids)], dtype=np.float64),
            half=half,
            yaw=np.array([0.0, *(s.yaw for s in solids)], dtype=np.float64),
            material=np.array(faces, dtype=np.int16),
            materials=tuple(materials),
        )


@dataclass(frozen=True, slots=True)
class View:
    """A grid of rays from one point; a ray's parameter is the distance along the viewing axis.

    Attributes:
        origin: (3,) float64, where the rays start [m].
        axes: (3, 3) float64, rows right, down, forward.
        xs: (W,) float64 ascending, a column's offset to the right at distance 1.
        ys: (H,) float64 ascending, a row's offset downwards at distance 1.
    """

    origin: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    xs: npt.NDArray[np.float64]
    ys: npt.NDArray[np.float64]

    @classmethod
    def of(cls, camera: Camera, height: int, width: int) -> View:
        """The rays through the centers of a camera's ``height × width`` pixels."""
        focal = camera.focal(width)
        return cls(
            origin=np.array(camera.position, dtype=np.float64),
            axes=camera.axes(),
            xs=(np.arange(width, dtype=np.float64) + 0.5 - width / 2) / focal,
            ys=(np.arange(height, dtype=np.float64) + 0.5 - height / 2) / focal,
        )


def trace(
    view: View, table: SolidTable, *, skip: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
    """Finds what each ray of a view meets first.

    Args:
        skip: (N+1,) bool, rows to leave out; a view without its room sees infinity.

    Returns:
        Depth (H, W) float32, distance along the viewing axis [m]; and the row of ``table`` that was
        met, (H, W) int16.
    """
    skipped = np.zeros(len(table.kind), dtype=np.bool_) if skip is None else skip
    to_local, origin = _local_frames(view, table)
    windows = _windows(view, table)
    ys32, xs32 = view.ys.astype(np.float32), view.xs.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if skipped[0]:
            depth = np.full((len(ys32), len(xs32)), np.inf, dtype=np.float32)
        else:
            slopes = _slopes(to_local[0].astype(np.float32), xs32, ys32)
            depth = _slab(slopes, origin[0], table.half[0])[1]
        hit_row = np.zeros(depth.shape, dtype=np.int16)
        for row in range(1, len(table.kind)):
            top, bottom, left, right = windows[row]
            if top >= bottom or left >= right or skipped[row]:
                continue
            if table.kind[row] == Kind.BOX:
                frame = to_local[row].astype(np.float32)
                slopes = _slopes(frame, xs32[left:right], ys32[top:bottom])
                near, far = _slab(slopes, origin[row], table.half[row])
            else:  # in float64: their discriminants cancel
                slopes = _slopes(to_local[row], view.xs[left:right], view.ys[top:bottom])
                near, far = _round(slopes, origin[row], table.half[row], Kind(table.kind[row]))
            seen = depth[top:bottom, left:right]
            nearest = (near < far) & (near > _NEAR) & (near < seen)
            np.copyto(seen, near, where=nearest, casting="same_kind")
            np.copyto(hit_row[top:bottom, left:right], np.int16(row), where=nearest)
    return depth, hit_row


def _local_frames(view: View, table: SolidTable) -> tuple[Floats, Floats]:
    """Each row's (3, 3) map from (x, y, 1) to its own axes, and the rays' origin there."""
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    turn = np.zeros((len(cos), 3, 3))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = cos, sin, -sin, cos, 1.0
    frames = (turn[:, :, None, :] * view.axes[None, None, :, :]).sum(axis=3)
    origin = (turn * (view.origin - table.center)[:, None, :]).sum(axis=2)
    return frames, origin


def _slopes(frame: Floats, xs: Floats, ys: Floats) -> list[Floats]:
    """The rays' directions along a solid's three axes, each (h, w)."""
    return [(frame[i, 0] * xs)[None, :] + (frame[i, 1] * ys + frame[i, 2])[:, None] for i in range(3)]


def _slab(slopes: list[Floats], origin: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Where rays enter and leave a box about the origin (slab method)."""
    near: Floats | None = None
    far: Floats | None = None
    for slope, start, reach in zip(slopes, origin.tolist(), half.tolist(), strict=True):
        inverse = 1.0 / slope
        first, second = (-reach - start) * inverse, (reach - start) * inverse
        low, high = np.minimum(first, second), np.maximum(first, second, out=inverse)
        near = low if near is None else np.maximum(near, low, out=near)
        far = high if far is None else np.minimum(far, high, out=far)
    assert near is not None
    assert far is not None
    return near, far


def _round(slopes: list[Floats], origin: Floats, half: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Where rays enter and leave a sphere, or a cylinder cut off by its two ends."""
    count = 3 if kind == Kind.SPHERE else 2
    radius = float(half[0])
    squared = sum((s * s for s in slopes[1:count]), slopes[0] * slopes[0])
    along = sum((s * float(o) for s, o in zip(slopes[1:count], origin[1:count], strict=True)),
                slopes[0] * float(origin[0]))  # fmt: skip
    beyond = float((origin[:count] ** 2).sum()) - radius * radius
    root = np.sqrt(along * along - squared * beyond)  # nan where a ray passes by
    near, far = (-along - root) / squared, (root - along) / squared
    if kind == Kind.CYLINDER:
        low, high = _slab(slopes[2:], origin[2:], half[2:])
        near, far = np.maximum(near, low), np.minimum(far, high)
    return near, far


def _windows(view: View, table: SolidTable) -> list[tuple[int, int, int, int]]:
    """Each row's pixels as (top, bottom, left, right), from its bounding box cut at the near plane."""
    cos, sin = np.cos(table.yaw)[:, None], np.sin(table.yaw)[:, None]
    local = _SIGNS[None] * table.half[:, None, :]
    world = np.stack([cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1],
                      local[..., 2]], axis=-1) + table.center[:, None, :]  # fmt: skip
    seen = ((world - view.origin)[:, :, None, :] * view.axes[None, None]).sum(axis=3)
    start, end = seen[:, _EDGES[:, 0]], seen[:, _EDGES[:, 1]]
    rise = end[..., 2] - start[..., 2]
    share = (_NEAR - start[..., 2]) / np.where(np.abs(rise) < 1e-12, 1.0, rise)
    cut = start + share[..., None] * (end - start)
    crossing = (start[..., 2] > _NEAR) != (end[..., 2] > _NEAR)
    points = np.concatenate([seen, cut], axis=1)
    valid = np.concatenate([seen[..., 2] > _NEAR, crossing], axis=1)
    depth = np.where(valid, np.maximum(points[..., 2], _NEAR), 1.0)
    windows = np.empty((len(table.kind), 4), dtype=np.int64)
    for column, (axis, centers) in enumerate(((1, view.ys), (0, view.xs))):
        at = points[..., axis] / depth
        low = np.where(valid, at, np.inf).min(axis=1) - 1e-9
        high = np.where(valid, at, -np.inf).max(axis=1) + 1e-9
        windows[:, 2 * column] = np.searchsorted(centers, low)
        windows[:, 2 * column + 1] = np.searchsorted(centers, high, side="right")
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in windows]
