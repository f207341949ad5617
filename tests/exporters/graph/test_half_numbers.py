"""Rounding to 16 bits against torch's, on every kind of number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glpn_deploy.exporters.graph.half_numbers import from_half_bits, half_bits, loses_digits, overflows

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def patterns() -> np.ndarray:
    """FP32 numbers of all sizes: random bits, every 16-bit pattern in front of ties, and the special ones."""
    rng = np.random.default_rng(0)
    random = rng.integers(0, 2**32, 200_000, np.uint32)
    high = np.arange(2**16, dtype=np.uint32) << 16
    ties = np.concatenate([high | low for low in (0, 0x7FFF, 0x8000, 0x8001, 0x1000, 0x2FFF, 0x3000)])
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 65504, 65519, 65520, 3.4e38], np.float32)
    return np.concatenate([random.view(np.float32), ties.view(np.float32), special])


@pytest.mark.parametrize("precision", DTYPES)
def test_rounding_is_torchs(precision):
    values = patterns()
    ours = from_half_bits(half_bits(values, precision), precision)
    theirs = torch.from_numpy(values).to(DTYPES[precision]).float().numpy()
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.signbit(ours)[~np.isnan(ours)], np.signbit(theirs)[~np.isnan(theirs)])


@pytest.mark.parametrize("precision", DTYPES)
def test_widening_is_torchs(precision):
    bits = np.arange(2**16, dtype=np.uint16)
    theirs = torch.from_numpy(bits.view(np.int16)).view(DTYPES[precision]).float().numpy()
    np.testing.assert_array_equal(from_half_bits(bits, precision), theirs)


@pytest.mark.parametrize(
    ("value", "fp16", "bf16"),
    [
        (65504, False, False),
        (65519, False, False),  # rounds down to 65504
        (65520, True, False),
        (-1e6, True, False),
        (3.4e38, True, True),
        (np.inf, False, False),  # it was infinite before
        (np.nan, False, False),
    ],
)
def test_overflow(value, fp16, bf16):
    values = np.array([1, value], np.float32)
    assert overflows(values, "fp16") is fp16
    assert overflows(values, "bf16") is bf16


@pytest.mark.parametrize(
    ("scale", "lost"),
    [
        (1.0, False),
        (1e-3, False),
        (2.0**-14, False),
        (2.0**-16, True),
        (1e-7, True),
        (1e-12, True),
        (0, False),
    ],
)
def test_digits_are_lost_at_the_bottom_of_fp16s_range(scale, lost):
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32) * np.float32(scale)
    assert loses_digits(values, "fp16") is lost
    assert not loses_digits(values, "bf16")


def test_a_few_tiny_weights_among_ordinary_ones_lose_nothing():
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    values[::3] *= 1e-9
    assert not loses_digits(values, "fp16")
