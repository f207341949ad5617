"""Which images a lower precision is calibrated on, and on which others it is checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, RenderedRooms
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.calibration.calibration import (
    ENOUGH_IMAGES,
    calibration_images,
    find_calibration_images,
    random_images,
)
from glpn_deploy.exporters.options import FEWEST_IMAGES, Where
from glpn_deploy.images.processing import GLPNImageProcessor

Pictures = tuple[NDArray[np.uint8], ...]

CHECK_IMAGES = 32
"""Images at most that a precision is checked on; of fewer than 5 times as many, every fifth."""

_LONG_SIDE = 640  # [px] a camera's full picture would be checked at a size that no robot computes
_ROOM_SIZE = (480, 640)
_SHARE_OF_LARGE = 8  # one in so many of the demo network's rooms has a camera's size
_FEWER_ROOMS = 40  # of the large ones: they take a sixth of a second each to render


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images for one export, none of them in both parts.

    Attributes:
        calibration: ``(H, W, 3)`` uint8, what ranges are found on; empty where nothing needs ranges.
        checking: The same, what errors are measured on.
    """

    calibration: Pictures
    checking: Pictures
    source: str


def check_images(where: Where, *, ranges: int, demo: bool) -> None:
    """Refuses what `choose_images` cannot use, as far as that shows without reading an image.

    Args:
        ranges: Images wanted for finding ranges, 0 where none are needed.
        demo: Whether the network is the package's own, whose world the rooms are.
    """
    if isinstance(where, Path):
        count = len(find_calibration_images(where))
        if ranges and count <= FEWEST_IMAGES:
            raise InputError(
                f"{where} has {count} photographs (sub-folders are not searched)",
                expected=f"at least {FEWEST_IMAGES + 1}: one to check on, the others for the ranges",
                fix=f"give {ENOUGH_IMAGES} or more pictures of the kind the camera will see",
            )
    elif where is None and ranges and not demo:
        raise InputError(
            "INT8 and FP8 need real images to find their ranges on, and none were named",
            expected="--calibration FOLDER with photographs of the kind the camera will see",
            fix="--calibration rooms takes rendered rooms, and --calibration random noise, to try it out",
        )


def choose_images(where: Where, processor: GLPNImageProcessor, *, ranges: int, demo: bool) -> ImageSet:
    """Chooses and reads the images."""
    check_images(where, ranges=ranges, demo=demo)
    if isinstance(where, Path):
        return _photographs(where, processor, ranges)
    height, width = DEFAULT_EVAL_SIZE if demo else _ROOM_SIZE
    count = CHECK_IMAGES if demo else _FEWER_ROOMS // 5
    rooms = RenderedRooms("val", count, height=height, width=width)
    checking = tuple(sample.image for sample in rooms)
    if where == "random":
        noise = tuple(random_images(min(ranges, _FEWER_ROOMS), height, width))
        return ImageSet(noise, checking, "noise to calibrate on, rendered rooms to check on")
    if not ranges:
        return ImageSet((), checking, "rendered rooms")
    # Inner values grow with the image: ranges hold for the shapes they were found at.
    large = ranges // _SHARE_OF_LARGE if demo else min(ranges, _FEWER_ROOMS - count)
    sizes = [(large, _ROOM_SIZE), (ranges - large if demo else 0, DEFAULT_EVAL_SIZE)]
    calibration: list[NDArray[np.uint8]] = []
    for number, (height, width) in sizes:
        if number:
            start = count + len(calibration)
            others = RenderedRooms("val", number, height=height, width=width, start=start)
            calibration += [sample.image for sample in others]
    return ImageSet(tuple(calibration), checking, "rendered rooms")


def _photographs(folder: Path, processor: GLPNImageProcessor, ranges: int) -> ImageSet:
    """Every fifth picture is checked on, one to `CHECK_IMAGES`; ranges are found on at most ``ranges``."""
    images = tuple(calibration_images(folder, processor, ranges + CHECK_IMAGES, _LONG_SIDE))
    source = f"photographs of {folder.name}"
    if not ranges:
        return ImageSet((), images, source)
    count = min(CHECK_IMAGES, max(1, len(images) // 5))
    chosen = {index * len(images) // count for index in range(count)}
    others = [image for index, image in enumerate(images) if index not in chosen]
    ranged = min(ranges, len(others))
    spread = tuple(others[index * len(others) // ranged] for index in range(ranged))
    return ImageSet(spread, tuple(images[index] for index in sorted(chosen)), source)
