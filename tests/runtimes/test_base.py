"""The contract every backend shares: what goes in is checked once, and a closed runtime says so."""

from __future__ import annotations

import time

import numpy as np
import pytest

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.runtimes.base import InputSpec, RuntimeOptions
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused

GOOD = np.zeros((2, 3, 64, 96), np.float32)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1.0]], "is a list; expected a numpy array float32"),
        (None, "is a NoneType"),
        (GOOD.astype(np.float64), "dtype float64; expected float32"),
        (GOOD.astype(np.uint8), "dtype uint8"),
        (GOOD.astype(">f4"), "dtype >f4"),
        (GOOD[0], r"shape \(3, 64, 96\)"),
        (GOOD[None], r"shape \(1, 2, 3, 64, 96\)"),
        (GOOD[:, :1], r"shape \(2, 1, 64, 96\)"),
        (GOOD.transpose(0, 2, 3, 1), r"shape \(2, 64, 96, 3\); expected float32 \(N, 3, H, W\)"),
        (GOOD[:0], r"shape \(0, 3, 64, 96\)"),
        (GOOD[:, :, :63], "height is 63 px; expected a multiple of 32 px; resize it to 32 px"),
        (GOOD[..., :70], "width is 70 px; expected a multiple of 32 px; resize it to 64 px"),
        (GOOD[..., :5], "width is 5 px; .*resize it to 32 px"),
        (GOOD[:, :, :0], "height is 0 px; .*resize it to 32 px"),
    ],
)
def test_what_is_refused(value, words):
    with pytest.raises(InputError, match=words):
        NullRuntime().run(value)


def test_fixed_shapes_name_the_only_size():
    spec = InputSpec(batch=2, height=64, width=96)
    assert spec.check(GOOD) is GOOD
    for value, words in (
        (GOOD[:1], "batch is 1; expected 2"),
        (GOOD[:, :, :32], "height is 32; expected 64"),
        (GOOD[..., :64], "width is 64; expected 96"),
    ):
        with pytest.raises(InputError, match=words):
            spec.check(value)


def test_another_multiple():
    with refused(InputError, got="width is 96 px", expected="a multiple of 64 px", fix="resize it to 64 px"):
        InputSpec(size_multiple=64).check(GOOD)


def test_a_contiguous_batch_is_not_copied_and_another_one_is():
    assert InputSpec().check(GOOD) is GOOD
    view = np.zeros((2, 64, 96, 3), np.float32).transpose(0, 3, 1, 2)
    assert InputSpec().check(view).flags.c_contiguous


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"precision": "half"}, "precision is 'half'; expected one of fp32"),
        ({"threads": 0}, "threads is 0; expected a whole number at least 1"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"mode": "fast"}, "mode is 'fast'; expected one of auto, latency, throughput, worker"),
        ({"fallback_precision": "fp16"}, "fallback_precision is 'fp16'; expected one of fp32, bf16"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(InputError, match=words):
        RuntimeOptions(**options)


def test_closed():
    with NullRuntime() as runtime:
        assert runtime.run(GOOD).shape == (2, 64, 96)
    runtime.close()  # a second time does nothing
    with refused(BackendError, got="the null runtime is closed"):
        runtime.run(GOOD)


def test_null_runtime_gives_its_depth_after_its_delay():
    runtime = NullRuntime(depth_m=2.5, delay_ms=30)
    start = time.perf_counter()
    depth = runtime.run(GOOD)
    assert time.perf_counter() - start >= 0.030
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.full((2, 64, 96), 2.5, np.float32))
    assert runtime.describe() == {"backend": "null", "device": "none", "precision": "fp32"}


class Wrong(NullRuntime):
    """A network that gives what it is told to."""

    def __init__(self, change):
        super().__init__()
        self._change = change

    def _infer(self, pixel_values):
        return self._change(super()._infer(pixel_values))


def spoiled(value):
    def change(depth):
        depth[-1, 3, 5] = value
        return depth

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda depth: depth[:1, :1, :1],
        lambda depth: depth.transpose(0, 2, 1),
        lambda depth: depth[:0],
        lambda depth: depth[:1],
        lambda depth: depth[:, None],
        *map(spoiled, (np.nan, np.inf, -np.inf, -1e30, 10.2, -0.2)),
    ],
)
def test_what_is_no_depth_is_refused(change):
    runtime = Wrong(change)
    with pytest.raises(BackendError) as caught:
        runtime.run(GOOD)
    assert caught.value.expected
    assert runtime.run_unchecked(GOOD) is not None  # for those who measure how wrong it is


@pytest.mark.parametrize("value", [0.0, 10.0, 10.05, -0.05])
def test_the_rounding_at_a_sigmoids_ends_is_no_fault(value):
    assert Wrong(spoiled(value)).run(GOOD)[-1, 3, 5] == np.float32(value)
