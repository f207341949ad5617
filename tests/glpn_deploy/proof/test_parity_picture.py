"""The picture of the worst image: its panels show what they say, on scales in metres."""

from __future__ import annotations

import numpy as np
import pytest

from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity import compare
from glpn_deploy.proof.parity_picture import draw_worst_image, error_scale_m
from glpn_deploy.proof.parity_report import ParityReport, WorstImage
from glpn_deploy.runtimes.rt_null import NullRuntime

PIXELS = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)


def report(depth: float) -> ParityReport:
    return compare(NullRuntime(depth), NullRuntime(2.0), [("only", PIXELS)], Budget(max_abs_rel=0.01))


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(color)).all(axis=-1).any())


@pytest.mark.parametrize(
    ("error_m", "scale_m"), [(0.0, 0.001), (0.0009, 0.001), (0.02, 0.1), (0.5, 1), (-3, 10), (40, 10)]
)
def test_the_scale_is_the_smallest_fixed_one_that_holds_the_error(error_m, scale_m):
    depth = np.full((10, 10), 2.0, np.float32)
    candidate = depth + np.float32(error_m)
    candidate[0, 0] = np.nan
    assert error_scale_m(WorstImage("", PIXELS[0], depth, candidate)) == scale_m


def test_nothing_finite_has_a_scale():
    depth = np.full((10, 10), np.nan, np.float32)
    assert error_scale_m(WorstImage("", PIXELS[0], depth, depth)) == 0.001


def test_input_and_error_can_be_found_in_the_picture():
    found = report(2.5)
    picture = draw_worst_image(found, found.worst_image, 10.0)
    assert picture.dtype == np.uint8
    assert picture.shape[1] > 4 * 96
    # 0.5 m of 1 m lies half way between two of ColorBrewer's RdBu colours
    between = tuple(np.rint(np.mean([(146, 197, 222), (67, 147, 195)], axis=0)).astype(int))
    assert has(picture, between)
    right = report(2.0)
    assert not has(draw_worst_image(right, right.worst_image, 10.0)[:300], between)


def test_nan_is_black():
    for depth, black in ((2.5, False), (np.nan, True)):
        found = report(depth)
        assert has(draw_worst_image(found, found.worst_image, 10.0), (0, 0, 0)) is black
