"""Histograms that do not depend on how values come, against whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glpn_deploy.exporters.calibration.histogram import BINS, MagnitudeHistogram

FLOATS = hnp.arrays(
    np.float32, st.integers(0, 40), elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)
)


def gathered(*arrays: np.ndarray) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for array in arrays:
        histogram.add(array)
    return histogram


@settings(max_examples=50, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=5), st.randoms())
def test_pieces_in_any_order_give_what_the_whole_gives(arrays, random):
    whole = gathered(np.concatenate(arrays))
    random.shuffle(arrays)
    pieces = gathered(*arrays)
    assert (pieces.low, pieces.high) == (whole.low, whole.high)
    assert pieces.width == whole.width
    np.testing.assert_array_equal(pieces.counts, whole.counts)
    assert pieces.percentile(99) == whole.percentile(99)


@pytest.mark.parametrize("largest", [1e-30, 0.3, 1.0, 2.0, 1e4, 3e38])
def test_bins_are_fine_enough_for_any_magnitude(largest):
    values = np.linspace(-largest, largest / 2, 10001, dtype=np.float32)
    histogram = gathered(values)
    assert histogram.largest / BINS <= histogram.width <= 2 * histogram.largest / BINS
    expected, _ = np.histogram(np.abs(values.astype(np.float64)), BINS, (0, BINS * histogram.width))
    np.testing.assert_array_equal(histogram.counts, expected)


@pytest.mark.parametrize("percent", [60, 99, 99.9, 99.99, 100])
def test_percentile_is_numpys_within_a_bin(percent):
    values = np.random.default_rng(0).standard_normal(199_990).astype(np.float32)
    histogram = gathered(*np.split(values, 10))
    exact = np.percentile(np.abs(values), percent, method="inverted_cdf")
    assert exact <= histogram.percentile(percent) <= exact + histogram.width
    assert histogram.percentile(100) == np.abs(values).max()


def test_zeros_and_nothing():
    assert gathered(np.zeros(5, np.float32)).percentile(99.9) == 0
    assert MagnitudeHistogram().largest == 0
    late = gathered(np.zeros(5, np.float32), np.ones(1, np.float32))
    assert late.counts[0] == 5
    assert late.counts.sum() == 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        MagnitudeHistogram().add(np.array([1, bad], np.float32))
