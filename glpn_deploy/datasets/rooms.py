"""Rendered rooms as a data set: photographs of random furnished rooms with their exact depth.

The renderer is numpy on one core and draws everything from one seed, so that a split is a range of
seeds and nothing is stored. The three ranges lie apart, hence no room of one split is in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glpn_deploy.datasets.base import DepthSample
from glpn_deploy.datasets.rendering.layout import MAX_DEPTH, random_scene
from glpn_deploy.datasets.rendering.scene import Scene
from glpn_deploy.datasets.rendering.shading import shade
from glpn_deploy.datasets.rendering.tracing import SolidTable, View, trace
from glpn_deploy.depth.metrics import Crop
from glpn_deploy.errors import DatasetError, InputError

MIN_DEPTH = 0.3
"""Nearest depth a sample carries [m]; anything nearer is 0, invalid."""

SPLIT_SIZE = 1_000_000_000
"""Seeds in each split."""

SPLIT_START = {"train": 0, "val": SPLIT_SIZE, "test": 2 * SPLIT_SIZE}
"""First seed of each split; it ends where the next one starts."""

DEFAULT_EVAL_SIZE = (96, 128)
"""Height and width [px] that rooms are judged at by default: what the demo checkpoint is trained on."""

_SMALLEST, _LARGEST = 16, 4096


@dataclass(frozen=True, slots=True)
class RenderedRoom:
    """A picture of a room.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32, distance along the optical axis [m]; 0 where outside 0.3–10 m.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    scene: Scene


def render_room(seed: int, height: int = 480, width: int = 640) -> RenderedRoom:
    """Renders the furnished room that belongs to a seed.

    The scene depends on the seed alone, never on the resolution.

    Args:
        height: Image height [pixels], 16–4096.
        width: Image width [pixels], 16–4096.

    Raises:
        InputError: If a number is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"the room's seed is {seed!r}", expected="a whole number, 0 or more")
    rng = np.random.Generator(np.random.PCG64(int(seed)))
    return render_scene(random_scene(rng), height, width, rng)


def render_scene(
    scene: Scene, height: int, width: int, rng: np.random.Generator | None = None
) -> RenderedRoom:
    """Renders a scene; ``rng`` draws the sensor's noise (default: the same noise every time).

    Raises:
        InputError: If the size is out of range or a solid has no extent.
    """
    _check_size(height, width)
    table = SolidTable.of(scene.room, scene.solids)
    view = View.of(scene.camera, height, width)
    depth, hit_row = trace(view, table)
    noise = np.random.Generator(np.random.PCG64(0)) if rng is None else rng
    image = shade(scene, table, view, depth, hit_row, noise)
    depth[(depth < MIN_DEPTH) | (depth > MAX_DEPTH)] = 0.0
    return RenderedRoom(image, depth, scene)


class RenderedRooms:
    """``count`` rooms of a split, rendered when asked for.

    Args:
        height: Image height [pixels].
        width: Image width [pixels].
        start: How many rooms of the split to leave out first.

    Raises:
        DatasetError: If there is no such split, or it has fewer rooms than asked for.
        InputError: If the image size is out of range.
    """

    name: str = "rooms"
    max_depth: float = MAX_DEPTH
    crop: Crop | None = None

    def __init__(
        self, split: str, count: int, *, height: int = 480, width: int = 640, start: int = 0
    ) -> None:
        if split not in SPLIT_START:
            raise DatasetError(f"the rooms have no split {split!r}", expected="train, val or test")
        if count < 1 or start < 0 or start + count > SPLIT_SIZE:
            raise DatasetError(
                f"rooms {start} to {start + count} of the {split} split were asked for",
                expected=f"at least one, all between 0 and {SPLIT_SIZE}",
            )
        _check_size(height, width)
        self.split, self.count, self.start = split, count, start
        self.height, self.width = height, width

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> DepthSample:
        seed = SPLIT_START[self.split] + self.start + range(self.count)[index]
        room = render_room(seed, self.height, self.width)
        return DepthSample(room.image, room.depth, f"room-{seed}")

    def __iter__(self) -> Iterator[DepthSample]:
        return (self[index] for index in range(self.count))


def _check_size(height: int, width: int) -> None:
    if not all(isinstance(n, int | np.integer) and _SMALLEST <= n <= _LARGEST for n in (height, width)):
        raise InputError(
            f"the room's image size is {height} × {width} pixels",
            expected=f"whole numbers from {_SMALLEST} to {_LARGEST}",
        )
