"""Flicker measured on depth whose flicker is known, and scale jumps taken out of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glpn_deploy.video.steadiness import TIME_CONSTANT_S, FlickerMeter, ScaleSteadier, log_ratio

SCENE = np.random.default_rng(1).uniform(1, 6, (60, 80)).astype(np.float32)


def jumping(jump: float, count: int = 300, seed: int = 0) -> list[np.ndarray]:
    """A static scene at scales whose logarithms are independent, normal with deviation ``jump``."""
    scales = np.exp(np.random.default_rng(seed).normal(0, jump, count)).astype(np.float32)
    return [SCENE * scale for scale in scales]


def measured(depths) -> dict:
    meter = FlickerMeter()
    for depth in depths:
        meter.update(depth)
    return meter.compute()


def test_a_scale_and_a_pixels_own_change_are_told_apart():
    before = np.full((100, 100), 2.0, np.float32)
    depth = before * np.float32(1.1)
    depth[:40] *= np.float32(1.05)  # fewer than half: the median does not see it, nor does the pixel's median
    assert log_ratio(depth, before) == pytest.approx((math.log(1.1), 0), abs=1e-6)
    depth[40:60] *= np.float32(0.95)
    jump, own = log_ratio(depth, before)
    assert jump == pytest.approx(math.log(1.1), abs=1e-6)
    assert own == pytest.approx(math.log(1.05), rel=0.01)


def test_no_depth_does_not_count():
    before = np.full((8, 8), 2.0, np.float32)
    depth = before * 2
    depth[0], depth[1, 0], before[2] = 0, np.nan, np.inf
    assert log_ratio(depth, before) == pytest.approx((math.log(2), 0), abs=1e-6)
    assert all(map(math.isnan, log_ratio(depth * 0, before)))
    assert all(map(math.isnan, log_ratio(depth, before[:4])))
    assert measured([depth])["scale_jump"] is None


def test_the_meter_finds_the_planted_jumps():
    """|difference of two normals| of deviation j has the mean 2 j / sqrt(pi)."""
    found = measured(jumping(0.02))
    assert found["pairs"] == 299
    assert found["scale_jump"] == pytest.approx(2 * 0.02 / math.sqrt(math.pi), rel=0.1)
    assert found["pixel_flicker"] < 1e-6


def test_steadying_takes_jumps_out_and_leaves_shapes():
    depths = jumping(0.02)
    steadier = ScaleSteadier()
    steady = [steadier(depth, index / 30) for index, depth in enumerate(depths)]
    assert measured(steady)["scale_jump"] < 0.25 * measured(depths)["scale_jump"]
    for depth in steady:
        ratio = depth / SCENE
        assert np.ptp(ratio) < 1e-5 * ratio.mean()
    late = np.log([np.median(depth / SCENE) for depth in steady[60:]])
    assert abs(late.mean()) < 0.01  # no drift


def test_a_lasting_change_is_followed_at_the_time_constant():
    steadier = ScaleSteadier()
    steadier(SCENE, 0.0)
    first = steadier(SCENE * np.float32(1.2), 1e-6)
    assert np.median(first / SCENE) == pytest.approx(1, abs=1e-4)
    later = steadier(SCENE * np.float32(1.2), TIME_CONSTANT_S + 1e-6)
    assert math.log(np.median(later / SCENE)) == pytest.approx((1 - math.exp(-1)) * math.log(1.2), rel=1e-3)
    assert steadier.scale == pytest.approx(math.exp(-math.exp(-1) * math.log(1.2)), rel=1e-3)


def test_a_cut_starts_anew():
    steadier = ScaleSteadier()
    steadier(SCENE, 0.0)
    steadier(SCENE * np.float32(1.3), 0.03)
    other = np.random.default_rng(2).uniform(1, 9, SCENE.shape).astype(np.float32)
    np.testing.assert_array_equal(steadier(other, 0.06), other)
    assert measured([SCENE, other])["pairs"] == 0


def test_a_gap_in_time_starts_anew():
    steadier = ScaleSteadier()
    steadier(SCENE, 0.0)
    depth = steadier(SCENE * np.float32(1.3), 100.0)
    np.testing.assert_allclose(depth, SCENE * np.float32(1.3), rtol=1e-5)
