"""Errors between two runs by hand, by depth range, and what is broken at sight."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from glpn_deploy.depth.error_stats import (
    FLAGS,
    depth_flags,
    error_stats,
    error_stats_by_range,
    pool_ranges,
)
from glpn_deploy.errors import InputError
from tests.refusals import refused


def test_error_stats_by_hand():
    reference = np.full((2, 5, 10), 2.0, dtype=np.float32)
    other = reference.copy()
    other[0, 0, 0] += 1.0
    other[1, 4, 9] -= 0.5
    stats = error_stats(other, reference)
    errors = np.sort(np.abs(other.astype(float) - reference).ravel())
    assert stats.max_abs_m == 1.0
    assert stats.mean_abs_m == pytest.approx(1.5 / 100)
    assert stats.abs_rel == pytest.approx(0.75 / 100)
    assert stats.p99_abs_m == pytest.approx(errors[98] + 0.01 * (errors[99] - errors[98]))  # rank 98.01
    assert stats.delta1 == 0.98
    assert stats.non_finite == 0
    assert list(stats.to_dict()) == [
        "max_abs_m",
        "p99_abs_m",
        "mean_abs_m",
        "abs_rel",
        "delta1",
        "non_finite",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_error_stats_cannot_pass_with_a_non_finite_pixel(value, side):
    pair = [np.ones((1, 2, 2)), np.ones((1, 2, 2))]
    pair[side][0, 0, 0] = value
    stats = error_stats(*pair)
    assert stats.non_finite == 1
    assert stats.max_abs_m == stats.p99_abs_m == stats.mean_abs_m == stats.abs_rel == math.inf
    assert stats.delta1 == 0.75
    assert json.loads(json.dumps(stats.to_dict(), allow_nan=False))["max_abs_m"] is None


def test_error_stats_refuses_shapes_that_differ():
    with refused(InputError, got="(1, 2, 2) and (1, 2, 3)"):
        error_stats(np.ones((1, 2, 2)), np.ones((1, 2, 3)))
    with refused(InputError, expected="pixels"):
        error_stats(np.ones((0, 2, 2)), np.ones((0, 2, 2)))


# By depth range ---------------------------------------------------------------------------------------


def test_ranges_by_hand():
    reference = np.array([[0.5, 1.0, 2.0, 2.999], [3.0, 9.0, 10.0, 79.0]], np.float32)
    other = np.array([[0.6, 1.0, 3.0, 2.999], [3.0, 9.9, 10.0, 81.0]], np.float32)
    near, middle, far, farthest = error_stats_by_range(other, reference)
    assert [part.name for part in (near, middle, far, farthest)] == ["0-1", "1-3", "3-10", "10-80"]
    assert [part.pixels for part in (near, middle, far, farthest)] == [1, 3, 2, 2]
    assert near.stats.max_abs_m == pytest.approx(0.1)
    assert near.stats.abs_rel == pytest.approx(0.2)
    assert near.stats.delta1 == 1.0
    assert middle.stats.max_abs_m == 1.0
    assert middle.stats.abs_rel == pytest.approx(0.5 / 3)
    assert middle.stats.delta1 == pytest.approx(2 / 3)
    assert middle.stats.p99_abs_m == pytest.approx(0.98)  # rank 1.98 of 0, 0, 1
    assert far.stats.abs_rel == pytest.approx(0.05)
    assert farthest.stats.mean_abs_m == 1.0


def test_a_range_without_pixels_and_pixels_without_a_range():
    reference = np.array([[np.nan, np.inf, 80.0, 5.0]])
    parts = error_stats_by_range(np.full((1, 4), 5.0), reference)
    assert [part.pixels for part in parts] == [0, 0, 1, 0]
    assert parts[0].stats is None
    assert parts[0].to_dict() == {"pixels": 0}
    assert parts[2].to_dict()["max_abs_m"] == 0.0


def test_a_nan_is_in_the_range_of_its_reference():
    near, middle, *_ = error_stats_by_range(np.array([[0.5, np.nan]]), np.array([[0.5, 2.0]]))
    assert near.stats.max_abs_m == 0.0
    assert middle.stats.max_abs_m == math.inf
    assert json.loads(json.dumps(middle.to_dict(), allow_nan=False))["max_abs_m"] is None


def test_pooled_ranges_are_those_of_all_pixels():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.2, 20, (4, 30, 40))
    other = reference * rng.uniform(0.6, 1.4, reference.shape)
    parts = [error_stats_by_range(other[s], reference[s]) for s in (np.s_[:1], np.s_[1:, :7], np.s_[1:, 7:])]
    whole, pooled = error_stats_by_range(other, reference), pool_ranges(parts)
    for one, other_ in zip(pooled, whole, strict=True):
        assert (one.name, one.pixels) == (other_.name, other_.pixels)
        assert one.stats.max_abs_m == other_.stats.max_abs_m
        assert one.stats.mean_abs_m == pytest.approx(other_.stats.mean_abs_m)
        assert one.stats.abs_rel == pytest.approx(other_.stats.abs_rel)
        assert one.stats.delta1 == pytest.approx(other_.stats.delta1)
        assert one.stats.p99_abs_m >= 0.99 * other_.stats.p99_abs_m


# Flags ------------------------------------------------------------------------------------------------

ROOM = np.linspace(1, 5, 400, dtype=np.float32).reshape(1, 20, 20)  # p95 - p5 = 3.6 m


def planted(value: float) -> np.ndarray:
    depth = ROOM.copy()
    depth[0, 3, 4] = value
    return depth


@pytest.mark.parametrize(
    ("depth", "flags"),
    [
        (ROOM, ()),
        (planted(np.nan), ("nan",)),
        (planted(np.inf), ("infinite",)),
        (planted(-np.inf), ("infinite",)),
        (np.full_like(ROOM, np.nan), ("nan",)),
        (np.full_like(ROOM, 3.0), ("constant",)),
        (np.zeros_like(ROOM), ("constant",)),
        (3 + (ROOM - 3) * 0.09, ("collapsed",)),
        (3 + (ROOM - 3) * 0.11, ()),
        (ROOM + 2, ()),  # shifted: for the limits to find
        (-ROOM, ()),
    ],
)
def test_flags(depth, flags):
    assert depth_flags(depth, ROOM) == flags
    assert set(flags) <= FLAGS.keys()


def test_one_image_of_a_batch_is_enough():
    reference = np.concatenate([ROOM, ROOM])
    assert depth_flags(np.concatenate([ROOM, np.full_like(ROOM, 2)]), reference) == ("constant",)
    both = np.concatenate([planted(np.nan), np.full_like(ROOM, 2)])
    assert depth_flags(both, reference) == ("nan", "constant")


def test_a_flat_reference_leaves_nothing_to_lose():
    flat = 5 + (ROOM - 3) * 0.05  # spread 0.18 m, 3.6 % of 5 m
    assert depth_flags(np.full_like(ROOM, 5.0), flat) == ()
    assert depth_flags(np.full_like(ROOM, 5.0), 5 + (ROOM - 3) * 0.1) == ("constant",)
    assert depth_flags(np.full_like(ROOM, 1.0), np.full_like(ROOM, 1.0)) == ()


def test_a_reference_that_is_not_finite():
    assert depth_flags(ROOM, planted(np.nan)) == ("reference_not_finite",)


def test_flags_want_batches():
    with refused(InputError, expected="one shape (N, H, W)"):
        depth_flags(ROOM[0], ROOM[0])
