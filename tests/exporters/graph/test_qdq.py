"""8-bit numbers and scales by hand, and against numpy and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glpn_deploy.exporters.graph.qdq import (
    FP8,
    INT8,
    INT8_REDUCE_RANGE,
    UINT8,
    activation_scale,
    quantize_weight,
    round_scale,
    weight_scales,
)


@pytest.mark.parametrize(
    ("limits", "number", "scale", "zero"),
    [
        ((-2.54, 1.0), INT8, 0.02, 0),
        ((0.0, 12.7), INT8, 0.1, 0),
        ((-1.0, 4.1), UINT8, 0.02, 50),
        ((0.0, 2.55), UINT8, 0.01, 0),
        ((-2.55, 0.0), UINT8, 0.01, 255),
        ((0.5, 2.55), UINT8, 0.01, 0),
        ((-44.8, 3.0), FP8, 0.1, 0),
        ((0.0, 0.0), INT8, 1.0, 0),
        ((0.0, 0.0), UINT8, 1.0, 0),
    ],
)
def test_scales_by_hand(limits, number, scale, zero):
    found, point = activation_scale(limits[0], limits[1], number)
    assert found == pytest.approx(scale, rel=1e-6)
    assert point == zero
    assert found.dtype == np.float32


def test_weights_by_hand():
    weight = np.array([[1.27, -0.64, 0.006], [0.0, 0.0, 0.0], [-0.5, 0.26, 0.125]], np.float32)
    scales = weight_scales(weight, 0, INT8)
    np.testing.assert_allclose(scales, [0.01, 1.0, 0.5 / 127], rtol=1e-6)
    np.testing.assert_array_equal(
        quantize_weight(weight, scales, 0, INT8),
        np.array([[127, -64, 1], [0, 0, 0], [-127, 66, 32]], np.int8),
    )


WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-8, 8, width=32)
)


@settings(max_examples=100, deadline=None)
@given(
    WEIGHTS,
    st.integers(0, 1),
    st.sampled_from([INT8, INT8_REDUCE_RANGE]),
    st.sampled_from([np.float32, np.float16]),
)
def test_integers_lie_within_half_a_step(weight, axis, number, dtype):
    scales = weight_scales(weight, axis, number, dtype)
    assert scales.dtype == dtype
    numbers = quantize_weight(weight, scales, axis, number)
    assert numbers.dtype == np.int8
    assert np.abs(numbers.astype(int)).max() <= number.high
    steps = np.moveaxis(weight.astype(np.float64), axis, -1) / scales.astype(np.float64)
    assert np.abs(np.moveaxis(numbers, axis, -1) - steps).max() <= 0.5 + 1e-9


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_fp8_is_torchs(weight):
    scales = weight_scales(weight, 0, FP8)
    shape = [-1] + [1] * (weight.ndim - 1)
    theirs = torch.from_numpy(weight.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    expected = theirs.float().to(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(quantize_weight(weight, scales, 0, FP8).astype(np.float32), expected)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-7, 6e4))
def test_rounded_scales_never_clip(scale):
    """Half precision's subnormal scales included, whose steps are coarse."""
    for dtype in (np.float16, np.float32):
        rounded = round_scale(np.array(scale), dtype)
        assert rounded.dtype == dtype
        assert float(rounded) >= scale
        assert float(rounded) <= scale * (1 + 2**-10) + 2**-24


def test_seven_bits_cannot_saturate_sixteen():
    """AVX2's vpmaddubsw adds two products of UINT8 and INT8 in 16 bits."""
    assert 2 * UINT8.high * INT8_REDUCE_RANGE.high < 2**15 <= 2 * UINT8.high * INT8.high
    assert math.log2(2 * INT8_REDUCE_RANGE.high) == 7
