"""Bicubic resizing of a depth map, equal to torch's within float32 rounding; sizes near a trained one."""

from __future__ import annotations

import functools
import math
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import InputError

_A = np.float32(-0.75)  # Keys' parameter as torch and OpenCV choose it; Pillow takes -0.5

FAR = 1.5
"""Times the sides that a network was trained at, or their share, from where on its depth is another one."""


def nearest_to(trained: tuple[int, int], height: int, width: int, multiple: int) -> tuple[int, int]:
    """The size nearest to a network's own at which it can see an image without stretching it.

    Args:
        trained: Height and width [px] that it was trained at.
        multiple: What its sides are multiples of [px].

    Returns:
        Height and width [px], multiples of ``multiple``, of the image's aspect as nearly as these allow and
        with about as many pixels as ``trained``.
    """
    scale = math.sqrt(math.prod(trained) / (height * width))
    high, wide = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return high, wide


def times_trained(trained: tuple[int, int], height: int, width: int) -> float:
    """How many times the sides of ``trained`` an image has, by its number of pixels."""
    return math.sqrt(height * width / math.prod(trained))


def resize_bicubic(depth: NDArray[Any], size: tuple[SupportsIndex, SupportsIndex]) -> NDArray[np.float32]:
    """Resizes as ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`` does.

    Keys' cubic convolution (1981) with a = -0.75 over 4 x 4 neighbours, edges repeated, no antialiasing,
    and unclamped: beside a step the result overshoots.

    Args:
        depth: (H, W), in any unit; computed in float32.
        size: Height and width of the result [px].

    Returns:
        (h, w) float32 in the unit of ``depth``; ``depth`` itself where nothing has to change.

    Raises:
        InputError: ``depth`` is not two-dimensional or is empty, or ``size`` is not two positive numbers.
    """
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.size == 0:
        raise InputError(
            f"the depth to resize has shape {depth.shape}", expected="(height, width), not empty"
        )
    try:
        height, width = (value.__index__() for value in size)
    except (AttributeError, TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(
            f"the size to resize to is {size!r}", expected="(height, width) in whole pixels, from 1"
        )
    depth = depth.astype(np.float32, copy=False)
    # The columns are gathered one by one, the rows whole: the dearer pass runs where there are fewer rows.
    if depth.shape[0] <= height:
        return _resize_rows(_resize_columns(depth, width), height)
    return _resize_columns(_resize_rows(depth, height), width)


def _resize_rows(depth: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    if depth.shape[0] == height:
        return depth
    indices, weights = _taps(depth.shape[0], height)
    return _weighted_sum(depth, indices, weights[:, :, None], axis=0)


def _resize_columns(depth: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    if depth.shape[1] == width:
        return depth
    indices, weights = _taps(depth.shape[1], width)
    return _weighted_sum(depth, indices, weights[:, None, :], axis=1)


def _weighted_sum(
    depth: NDArray[np.float32], indices: NDArray[np.intp], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    total: NDArray[np.float32] = np.take(depth, indices[0], axis=axis)
    total *= weights[0]
    gathered = np.empty_like(total)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        np.take(depth, index, axis=axis, out=gathered, mode="clip")  # "raise" would buffer the output
        gathered *= weight
        total += gathered
    return total


@functools.lru_cache(maxsize=64)
def _taps(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Source indices (4, n_out) and weights (4, n_out) of one axis.

    torch works out the source position in float32 with one fused multiply-add; the rounding shows in the
    depth (4e-5 of the maximum at 640 px), so it is repeated here: the product is exact in float64.
    """
    scale = np.float32(n_in) / np.float32(n_out)
    centres = np.arange(n_out, dtype=np.float64) + 0.5
    position = (np.float64(scale) * centres - 0.5).astype(np.float32)
    first = np.floor(position)
    t = position - first
    one = np.float32(1)
    weights = np.stack([_outer(t + one), _inner(t), _inner(one - t), _outer(np.float32(2) - t)])
    indices = first.astype(np.intp) + np.arange(-1, 3, dtype=np.intp)[:, None]
    indices = indices.clip(0, n_in - 1)
    indices.flags.writeable = weights.flags.writeable = False  # shared through the cache
    return indices, weights


def _inner(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keys' kernel for distances from 0 to 1."""
    weights: NDArray[np.float32] = ((_A + 2) * x - (_A + 3)) * x * x + 1
    return weights


def _outer(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keys' kernel for distances from 1 to 2."""
    weights: NDArray[np.float32] = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return weights
