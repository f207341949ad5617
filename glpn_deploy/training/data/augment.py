"""The paper's augmentations: Vertical CutDepth, mirroring, cropping, and colour by kornia.

What moves pixels works on one sample in numpy, where samples are read; colour works on whole batches on
the training device. All of it draws from generators that the caller seeds, so that a step is the same
whenever it is run.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from kornia.enhance import adjust_brightness, adjust_contrast, adjust_gamma, adjust_hue
from torch import Tensor

from glpn_deploy.errors import DatasetError

Image = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]

WIDEST = 0.75
"""Largest share of the columns right of its left edge that a pasted strip covers."""
BRIGHTNESS = CONTRAST = GAMMA = 0.2
"""Colour changes by up to this share, as albumentations' defaults in the authors' code."""
HUE = 20 / 180 * 2 * np.pi
"""Largest turn of the hue [rad]: 20 of OpenCV's 180 steps, as there."""


def vertical_cutdepth(
    image: Image,
    depth: Depth,
    a: float,
    b: float,
    *,
    max_depth: float = 10.0,
    scaling: Literal["unit", "as-released"] = "unit",
) -> Image:
    """Replaces a strip of full height by its depth (section 3.4 of arXiv:2201.07436).

    The strip begins at column ``int(a·W)`` and is ``int(max((W − a·W)·b·0.75, 1))`` wide.

    Args:
        image: (H, W, 3) RGB.
        depth: (H, W) metres.
        a: Where the strip begins, 0 to 1.
        b: How wide it is, 0 to 1.
        max_depth: Depth [m] that is pasted as white.
        scaling: ``unit`` pastes depth/max_depth as grey from 0 to 255; ``as-released`` does as the
            authors' code, whose millimetres wrap around at 256.

    Returns:
        A copy of the image with the strip.
    """
    width = image.shape[1]
    left = int(a * width)
    right = left + int(max((width - a * width) * b * WIDEST, 1))
    strip = depth[:, left:right]
    if scaling == "unit":
        grey = np.rint(np.clip(strip / max_depth, 0.0, 1.0) * 255.0).astype(np.uint8)
    else:
        grey = (np.rint(strip * 1000.0).astype(np.int64) % 256).astype(np.uint8)
    image = image.copy()
    image[:, left:right] = grey[:, :, None]
    return image


def random_crop(
    image: Image, depth: Depth, size: tuple[int, int], rng: np.random.Generator, name: str = "the sample"
) -> tuple[Image, Depth]:
    """Cuts the same random window of ``size`` (height, width) [px] from image and depth."""
    height, width = depth.shape
    if height < size[0] or width < size[1]:
        raise DatasetError(
            f"{name} is {width}x{height}",
            expected=f"at least the crop's {size[1]}x{size[0]}",
            fix="choose a smaller crop (--crop HxW, multiples of 32)",
        )
    top = int(rng.integers(height - size[0] + 1))
    left = int(rng.integers(width - size[1] + 1))
    window = (slice(top, top + size[0]), slice(left, left + size[1]))
    return image[window], depth[window]


def random_flip(image: Image, depth: Depth, share: float, rng: np.random.Generator) -> tuple[Image, Depth]:
    """Mirrors image and depth left to right in a ``share`` of the calls."""
    if rng.random() < share:
        return image[:, ::-1], depth[:, ::-1]
    return image, depth


def random_colour(images: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Brightness and contrast, gamma, and hue, each on its own ``share`` of a batch.

    Args:
        images: (B, 3, H, W) from 0 to 1; changed in place.
        share: Probability that a sample is changed, by each of the three.
        rng: Where the choices and strengths are drawn from.

    Returns:
        The batch, from 0 to 1.
    """
    count = len(images)

    def chosen() -> Tensor:
        return torch.from_numpy(np.flatnonzero(rng.random(count) < share)).to(images.device)

    def factors(spread: float, centre: float) -> Tensor:
        drawn = rng.uniform(centre - spread, centre + spread, count).astype(np.float32)
        return torch.from_numpy(drawn).to(images.device)

    index, brightness, contrast = chosen(), factors(BRIGHTNESS, 0.0), factors(CONTRAST, 1.0)
    if len(index):
        part = adjust_contrast(images[index], contrast[index])
        images[index] = adjust_brightness(part, brightness[index])
    index, gamma = chosen(), factors(GAMMA, 1.0)
    if len(index):
        images[index] = adjust_gamma(images[index], gamma[index])
    index, hue = chosen(), factors(HUE, 0.0)
    if len(index):
        images[index] = adjust_hue(images[index], hue[index])
    return images
