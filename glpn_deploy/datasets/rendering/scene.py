"""What a rendered room is made of: solids, materials, lights, a camera, and the scene that holds them.

World axes: x and y span the floor, z points up; every length is in metres, every angle in radians
unless its name says otherwise. A room is the box from the origin to its size, seen from inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Vec3: TypeAlias = tuple[float, float, float]
Rgb: TypeAlias = tuple[float, float, float]


class Kind(IntEnum):
    """The shape of a solid; ``ROOM`` is the hollow box that encloses all others."""

    ROOM = 0
    BOX = 1
    SPHERE = 2
    CYLINDER = 3


class Pattern(IntEnum):
    """How a material mixes its two colors over a surface."""

    PLAIN = 0
    PLANKS = 1
    TILES = 2
    STRIPES = 3
    CHECKER = 4
    PANELS = 5
    DOTS = 6
    MOSAIC = 7
    ART = 8


@dataclass(frozen=True, slots=True)
class Material:
    """The look of a surface.

    Attributes:
        color: Linear RGB reflectance, 0–1.
        second: The pattern's other color (grout, gaps, every second stripe).
        pattern: How the two are mixed.
        scale: Pattern repeats a metre, along the surface's first and second direction.
        gap: Width of the second color as a share of one repeat.
        variation: Brightness difference between cells (planks, tiles), 0–1.
        grain: Amplitude of the noise, 0–1.
        grain_scale: Noise cells a metre, along both directions (unequal ones look like wood).
        glow: Light given off, in units of the reflected light.
    """

    color: Rgb
    second: Rgb = (0.0, 0.0, 0.0)
    pattern: Pattern = Pattern.PLAIN
    scale: tuple[float, float] = (1.0, 1.0)
    gap: float = 0.05
    variation: float = 0.0
    grain: float = 0.0
    grain_scale: tuple[float, float] = (10.0, 10.0)
    gloss: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True, slots=True)
class Solid:
    """One primitive.

    Attributes:
        kind: Box, sphere or upright cylinder.
        center: Its middle [m].
        half: Half its size along its own axes [m]; the radius, three times, for a sphere;
            (radius, radius, half the height) for a cylinder.
        yaw: Turn about the vertical axis [rad].
        front: Look of the face towards the solid's own +y, where it differs.
    """

    kind: Kind
    center: Vec3
    half: Vec3
    yaw: float
    material: Material
    front: Material | None = None


def box(
    center: Vec3, size: Vec3, material: Material, *, yaw: float = 0.0, front: Material | None = None
) -> Solid:
    """A box of ``size`` (along its own x, y, z) [m] about ``center``, turned by ``yaw`` [rad]."""
    return Solid(Kind.BOX, center, (size[0] / 2, size[1] / 2, size[2] / 2), yaw, material, front)


def sphere(center: Vec3, radius: float, material: Material) -> Solid:
    """A sphere [m]."""
    return Solid(Kind.SPHERE, center, (radius, radius, radius), 0.0, material)


def cylinder(center: Vec3, radius: float, height: float, material: Material) -> Solid:
    """An upright cylinder with flat ends about ``center`` [m]."""
    return Solid(Kind.CYLINDER, center, (radius, radius, height / 2), 0.0, material)


@dataclass(frozen=True, slots=True)
class Room:
    """The hollow box from the origin to ``size`` [m].

    Attributes:
        size: Extent along x, y and z [m].
        walls: Materials of the walls at x=0, x=size, y=0, y=size.
        skirting: Height of the skirting board [m], 0 for none.
    """

    size: Vec3
    walls: tuple[Material, Material, Material, Material]
    floor: Material
    ceiling: Material
    skirting: float = 0.0
    skirting_color: Rgb = (0.7, 0.7, 0.7)


@dataclass(frozen=True, slots=True)
class Light:
    """A small lamp, or a window that shines along ``normal``.

    Attributes:
        normal: Direction in which its shadows are worked out; a unit vector.
        power: Linear RGB strength.
        directed: Whether it shines only forward, weakening with the cosine, as a window does.
        softness: Size of the lamp, which sets how soft its shadows are [m].
    """

    position: Vec3
    normal: Vec3
    power: Rgb
    directed: bool = False
    softness: float = 0.05


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera with square pixels and its principal point in the middle.

    Attributes:
        yaw: Viewing direction about the vertical axis, 0 along +x, counter-clockwise [rad].
        pitch: Upward tilt [rad].
        roll: Clockwise turn of the camera about its viewing direction [rad].
        fov: Horizontal field of view [rad].
    """

    position: Vec3
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    fov: float = 1.1

    def axes(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64: rows are the image's right, its down, and the viewing direction."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        forward = np.array([cp * cy, cp * sy, sp])
        level = np.array([sy, -cy, 0.0])
        plumb = np.array([sp * cy, sp * sy, -cp])
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cr * level + sr * plumb, cr * plumb - sr * level, forward])

    def focal(self, width: int) -> float:
        """Focal length [pixels] of an image ``width`` pixels wide."""
        return float(width / (2.0 * np.tan(self.fov / 2.0)))


@dataclass(frozen=True, slots=True)
class Finish:
    """What the photograph adds: exposure, color balance and the lens.

    Attributes:
        ambient: Strength of the light that comes from everywhere, linear RGB.
        exposure: Mean brightness aimed at, 0–1.
        balance: Gain of red, green and blue.
        vignette: Share of light lost in the corners.
        noise: Standard deviation of the sensor's noise, 0–1.
        blur: Share of each pixel's light that spills to its neighbors, 0–0.5.
        contrast: Exponent of the tone curve, about 1.
    """

    ambient: Rgb = (0.5, 0.5, 0.5)
    exposure: float = 0.42
    balance: Rgb = (1.0, 1.0, 1.0)
    vignette: float = 0.1
    noise: float = 0.0
    blur: float = 0.0
    contrast: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides the picture except its resolution."""

    room: Room
    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    camera: Camera
    finish: Finish = field(default_factory=Finish)
