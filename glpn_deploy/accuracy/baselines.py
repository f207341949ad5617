"""What depth can be guessed without looking at the image: the figures a network has to beat on the rooms."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.depth.metrics import MIN_DEPTH, crop_window
from glpn_deploy.errors import InputError

FIT_ROOMS = 200
"""Training rooms that the baselines are fitted on by default."""

_STEP_M = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """A predictor that gives every image the same depth.

    Attributes:
        depth: (H, 1) float32, one depth a row [m]; (1, 1) where one depth serves every row.
    """

    name: str
    description: str
    depth: NDArray[np.float32]

    def predict(self, height: int, width: int) -> NDArray[np.float32]:
        """The depth for an image of this size: (height, width) float32 [m].

        Raises:
            InputError: The rows were fitted at another height.
        """
        if len(self.depth) not in (1, height):
            raise InputError(
                f"a per-row baseline of {len(self.depth)} rows met an image of {height}",
                expected="the height it was fitted at",
            )
        return np.broadcast_to(self.depth, (height, width))


def fit_baselines(dataset: DepthDataset) -> tuple[Baseline, ...]:
    """Fits the best constants and the mean depth of every row, on a training split.

    The two constants, found in steps of 1 cm, are the ones with the highest δ1 and with the lowest AbsRel
    (each taken by image, then averaged, as `DepthMetrics` does). Only pixels that count in the data set's
    protocol are looked at.

    Args:
        dataset: Images of one size, such as training rooms.

    Returns:
        ``constant_delta1``, ``constant_abs_rel`` and ``row_mean``.

    Raises:
        DatasetError: A sample cannot be read.
        InputError: No pixel counts, or the images differ in height.
    """
    candidates = np.arange(_STEP_M, dataset.max_depth, _STEP_M)
    scores = np.zeros((2, len(candidates)))
    images, sums, counts = 0, np.zeros(0), np.zeros(0)
    with progress.step("fit baselines", len(dataset)) as step:
        for index in range(len(dataset)):
            sample = dataset[index]
            window = crop_window(dataset.crop, *sample.depth.shape)
            depth = np.zeros(sample.depth.shape)
            depth[window] = sample.depth[window]
            depth[~((depth > MIN_DEPTH) & (depth < dataset.max_depth))] = 0
            if not images:
                sums, counts = np.zeros(len(depth)), np.zeros(len(depth))
            if len(depth) != len(sums):
                raise InputError(
                    f"{sample.name} is {len(depth)} px high", expected=f"{len(sums)} px, as the first image"
                )
            sums += depth.sum(axis=1)
            counts += np.count_nonzero(depth, axis=1)
            scores += _constant_scores(np.sort(depth[depth > 0]), candidates)
            images += 1
            step.advance(sample.name)
        if not counts.sum():
            raise InputError(f"the {dataset.name} samples have no valid pixel", expected="ground truth")
        step.finish(f"on {images} {dataset.name} images")
    best_delta1, best_abs_rel = candidates[scores[0].argmax()], candidates[scores[1].argmin()]
    overall = sums.sum() / counts.sum()
    rows = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    return (
        _constant("constant_delta1", best_delta1, "highest delta1"),
        _constant("constant_abs_rel", best_abs_rel, "lowest AbsRel"),
        Baseline("row_mean", "mean depth of each image row", rows.astype(np.float32)[:, None]),
    )


def _constant(name: str, depth: float, why: str) -> Baseline:
    return Baseline(name, f"{depth:.2f} m everywhere ({why})", np.full((1, 1), depth, np.float32))


def _constant_scores(depth: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """δ1 and AbsRel of every candidate on one image's sorted valid depth: (2, candidates).

    With the depth g sorted, mean |c-g|/g needs only the sum of 1/g below and above c.
    """
    if not depth.size:
        return np.zeros((2, len(candidates)))
    inside = np.searchsorted(depth, candidates * 1.25, "left") - np.searchsorted(
        depth, candidates / 1.25, "right"
    )
    inverse = np.concatenate([[0.0], np.cumsum(1 / depth)])
    below = np.searchsorted(depth, candidates)
    above = depth.size - below
    relative = candidates * (2 * inverse[below] - inverse[-1]) - below + above
    return np.stack([inside / depth.size, relative / depth.size])
