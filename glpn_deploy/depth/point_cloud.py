"""Depth to points in space: the pinhole camera, back-projection and the PLY file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import InputError


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; pixel centres lie at whole numbers, as in OpenCV.

    Attributes:
        fx: Focal length along the rows [px].
        fy: Focal length along the columns [px].
        cx: Column of the optical axis [px].
        cy: Row of the optical axis [px].

    Raises:
        InputError: A value is not finite, or a focal length is not above 0.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        if not all(math.isfinite(value) for value in values) or min(self.fx, self.fy) <= 0:
            raise InputError(
                f"the intrinsics are fx, fy, cx, cy = {values}",
                expected="finite pixels, with fx and fy above 0",
            )

    @classmethod
    def from_fov(cls, horizontal_degrees: float, width: int, height: int) -> Intrinsics:
        """A camera with square pixels whose axis goes through the middle of the image.

        Args:
            horizontal_degrees: Angle between the image's left and right edges [degrees].
            width: Width of the image [px].
            height: Height of the image [px].

        Raises:
            InputError: The angle is not between 0 and 180, or a side is not positive.
        """
        if not 0 < horizontal_degrees < 180:
            raise InputError(
                f"the horizontal field of view is {horizontal_degrees} degrees",
                expected="an angle between 0 and 180 degrees",
            )
        if min(width, height) < 1:
            raise InputError(f"the image is {width} x {height} px", expected="at least 1 px on either side")
        focal = width / 2 / math.tan(math.radians(horizontal_degrees) / 2)
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2)

    def scaled(self, factor: float) -> Intrinsics:
        """The camera of the same image enlarged by a factor (0.5: half as wide and half as high).

        Pixel centres lie at whole numbers, so the axis moves as ``(c + 0.5) * factor - 0.5``.

        Raises:
            InputError: The factor is not a finite number above 0.
        """
        if not 0 < factor < math.inf:
            raise InputError(f"intrinsics scaled by {factor}", expected="a finite factor above 0")
        return Intrinsics(
            self.fx * factor, self.fy * factor, (self.cx + 0.5) * factor - 0.5, (self.cy + 0.5) * factor - 0.5
        )


def back_project(
    depth: NDArray[np.float32], intrinsics: Intrinsics, rgb: NDArray[np.uint8] | None = None, stride: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Points in the camera's frame: x to the right, y down, z forward.

    Args:
        depth: (H, W) distance along the optical axis [m]; pixels not finite or not above 0 are left out.
        intrinsics: The camera, for an image of this size.
        rgb: (H, W, 3) uint8 colours.
        stride: Take every nth row and column.

    Returns:
        The points (N, 3) float32 [m], row by row, and their colours (N, 3) uint8 or None.
    """
    if stride < 1:
        raise InputError(f"the stride is {stride}", expected="a whole number of at least 1")
    if rgb is not None and (rgb.shape != (*depth.shape, 3) or rgb.dtype != np.uint8):
        raise InputError(
            f"the colours are {rgb.dtype} of shape {rgb.shape}",
            expected=f"uint8 of shape {(*depth.shape, 3)}",
            fix="take the image the depth was computed from, at its own size",
        )
    sampled = depth[::stride, ::stride]
    rows, columns = np.nonzero(np.isfinite(sampled) & (sampled > 0))
    z = sampled[rows, columns]
    points = np.empty((len(z), 3), np.float32)
    points[:, 0] = (columns * stride - intrinsics.cx) / intrinsics.fx * z
    points[:, 1] = (rows * stride - intrinsics.cy) / intrinsics.fy * z
    points[:, 2] = z
    return points, None if rgb is None else rgb[rows * stride, columns * stride]


def draw_points(
    points: NDArray[np.float32], colors: NDArray[np.uint8], intrinsics: Intrinsics, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draws points as the same camera sees them after it went around their middle, to the left and up.

    It turns about the point on its axis at the points' median depth and goes back by a quarter of that depth.
    What is nearer hides what is behind it; where no point falls the picture is white.

    Args:
        points: (N, 3) [m] in the camera's frame, as `back_project` gives them.
        colors: (N, 3) uint8.
        size: (height, width) of the picture [px].

    Returns:
        (height, width, 3) uint8 RGB.
    """
    height, width = size
    picture = np.full((height, width, 3), 255, np.uint8)
    if not len(points):
        return picture
    yaw, pitch = math.radians(25.0), math.radians(15.0)
    middle = float(np.median(points[:, 2]))
    about_y = [[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]]
    about_x = [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    turned = (points - [0, 0, middle]) @ (np.array(about_x) @ about_y).T + [0, 0, 1.25 * middle]
    ahead = turned[:, 2] > 0.05 * middle
    turned, colors = turned[ahead], colors[ahead]
    z = turned[:, 2]
    column = turned[:, 0] / z * intrinsics.fx + intrinsics.cx
    row = turned[:, 1] / z * intrinsics.fy + intrinsics.cy
    # A point is a square of 2 px: surfaces seen from the side have few holes. The farthest come first.
    for index in np.array_split(np.argsort(-z), max(1, len(z) // 2**18)):
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = np.floor(row[index] + down).astype(int), np.floor(column[index] + right).astype(int)
            seen = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            picture[y[seen], x[seen]] = colors[index][seen]
    return picture


def write_ply(path: Path, points: NDArray[np.float32], colors: NDArray[np.uint8] | None = None) -> None:
    """Writes points as a binary little-endian PLY.

    Args:
        points: (N, 3) [m].
        colors: (N, 3) uint8, or None.
    """
    fields = [(axis, "<f4", "float") for axis in ("x", "y", "z")]
    if colors is not None:
        fields += [(channel, "u1", "uchar") for channel in ("red", "green", "blue")]
    vertices = np.empty(len(points), dtype=[(name, code) for name, code, _ in fields])
    for i, axis in enumerate(("x", "y", "z")):
        vertices[axis] = points[:, i]
    if colors is not None:
        for i, channel in enumerate(("red", "green", "blue")):
            vertices[channel] = colors[:, i]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment metres; camera frame: x right, y down, z forward",
        f"element vertex {len(points)}",
        *(f"property {kind} {name}" for name, _, kind in fields),
        "end_header",
    ]
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
