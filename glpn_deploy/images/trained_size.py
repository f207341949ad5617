"""Images at about the size that a network was trained at, for networks that know one size only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.images.loading import MIN_SIDE


def reduced(
    image: NDArray[np.uint8], size: tuple[int, int], times: int = 1, multiple: int = 1
) -> NDArray[np.uint8]:
    """An image with about as many pixels as ``times`` the sides of ``size`` give, of its own shape.

    Smaller ones stay as they are. Sides are multiples of ``multiple`` [px], the nearest ones.
    """
    height, width = image.shape[:2]
    scale = times * math.sqrt(math.prod(size) / (height * width))
    if scale >= 1:
        return image
    wanted = [max(MIN_SIDE, round(side * scale / multiple) * multiple) for side in (width, height)]
    return np.asarray(Image.fromarray(image).resize((wanted[0], wanted[1]), Image.Resampling.LANCZOS))
