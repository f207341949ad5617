"""When a comparison passes, what it says when it does not, and what it looks at."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.errors import BundleError, ParityError
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity import (
    SWEEP,
    compare,
    fp32_budget,
    room_batch,
    sweep_batches,
    verify_goldens,
)
from glpn_deploy.proof.parity_report import ParityReport, describe_case, summary
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused

BATCHES = [("small", np.zeros((1, 3, 32, 32), np.float32)), ("large", np.zeros((2, 3, 64, 32), np.float32))]


def against(depth: float, reference: float = 1.0, tolerance: float = 0.5) -> ParityReport:
    return compare(NullRuntime(depth), NullRuntime(reference), BATCHES, Budget(max_abs_m=tolerance))


@pytest.mark.parametrize(
    ("depth", "passed"),
    [
        (1.0, True),
        (1.5, True),
        (0.5, True),
        (np.nextafter(np.float32(1.5), np.float32(2)), False),
        (0.4, False),
    ],
)
def test_the_tolerance_itself_still_passes(depth, passed):
    report = against(depth)
    assert report.passed is passed
    assert report.to_dict()["passed"] is passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(value):
    for report in (against(value), against(1.0, reference=value), against(value, reference=value)):
        assert not report.passed
        assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["max_abs_m"] is None
        with refused(ParityError, got="is not finite"):
            report.require()


def test_one_bad_pixel_of_many_fails_and_is_the_worst():
    class Mostly(NullRuntime):
        def _infer(self, pixel_values):
            depth = super()._infer(pixel_values)
            if len(depth) == 2:
                depth[1, 5, 7] = np.nan
            return depth

    report = compare(Mostly(), NullRuntime(), BATCHES, Budget(max_abs_m=0.5))
    assert [case.passed for case in report.cases] == [True, False]
    assert (report.worst.name, report.worst.stats.non_finite) == ("large", 1)
    assert "1 of 2 within 0.5 m" in summary(report)
    assert describe_case(report.worst).startswith("✗ large")


def test_nothing_compared_is_no_proof():
    report = compare(NullRuntime(), NullRuntime(), [], Budget(max_abs_m=1.0))
    assert not report.passed
    assert report.to_dict()["max_abs_m"] is None
    with refused(ParityError, got="nothing was compared"):
        report.require()


def test_the_error_tells_worst_case_limit_and_both_sides():
    with pytest.raises(ParityError) as caught:
        against(2.0).require()
    for part in ("null fp32", "by up to 1 m", "2 of 2 cases", "at most 0.5 m"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1


def test_every_case_is_reported():
    report = compare(NullRuntime(), NullRuntime(), BATCHES, Budget(max_abs_m=1.0))
    assert [(case.name, case.shape) for case in report.cases] == [
        ("small", (1, 32, 32)),
        ("large", (2, 64, 32)),
    ]


def test_depths_of_unlike_shapes():
    class Half(NullRuntime):
        def _infer(self, pixel_values):
            return super()._infer(pixel_values)[:, ::2, ::2]

    with refused(ParityError, got="small gave depth of shape (1, 16, 16)", expected="(1, 32, 32)"):
        compare(Half(), NullRuntime(), BATCHES, Budget(max_abs_m=1.0))


def test_tolerance_is_a_share_of_the_scale():
    assert fp32_budget(10).max_abs_m == pytest.approx(1e-4)
    assert fp32_budget(80, 1e-3).max_abs_m == pytest.approx(0.08)


# The sweep ----------------------------------------------------------------------------------------------


def test_the_sweep_covers_what_is_promised():
    batches, heights, widths = zip(*SWEEP, strict=True)
    assert {*batches} == {1, 2, 3}
    assert (1, 32, 32) in SWEEP
    assert {(480, 640), (640, 480)} <= {shape[1:] for shape in SWEEP}
    assert any(h > w for _, h, w in SWEEP)
    assert any(h < w for _, h, w in SWEEP)
    assert max(max(h / w, w / h) for _, h, w in SWEEP) >= 5
    assert not any(side % 32 for side in heights + widths)


def test_sweep_batches_are_real_pictures_of_those_shapes(monkeypatch):
    monkeypatch.setattr("glpn_deploy.proof.parity.SWEEP", ((2, 32, 32), (1, 64, 96)))
    batches = dict(sweep_batches(GLPNImageProcessor(), 32))
    assert {name: batch.shape for name, batch in batches.items()} == {
        "2x32x32": (2, 3, 32, 32),
        "1x64x96": (1, 3, 64, 96),
    }
    for batch in batches.values():
        assert batch.dtype == np.float32
        assert 0 <= batch.min() < batch.max() <= 1
    assert not np.array_equal(*batches["2x32x32"])


def test_sweep_sides_are_rounded_up_to_what_network_and_processor_take(monkeypatch):
    monkeypatch.setattr("glpn_deploy.proof.parity.SWEEP", ((1, 32, 160),))
    for multiple, divisor, shape in ((64, 32, (64, 192)), (32, 128, (128, 256)), (96, 64, (192, 192))):
        ((_, batch),) = sweep_batches(GLPNImageProcessor(size_divisor=divisor), multiple)
        assert batch.shape == (1, 3, *shape)


def test_rooms_are_the_same_every_time():
    processor = GLPNImageProcessor()
    np.testing.assert_array_equal(room_batch(processor, 2, 32, 64), room_batch(processor, 2, 32, 64))


# Goldens ------------------------------------------------------------------------------------------------


def test_goldens_tell_the_right_network_from_a_wrong_one(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    report = verify_goldens(bundle, NullRuntime(), Budget(max_abs_m=1e-4))
    assert not report.passed
    assert len(report.cases) == 3
    assert report.worst.stats.max_abs_m == pytest.approx(
        max(np.abs(bundle.golden_depth(golden) - 1).max() for golden in bundle.manifest.goldens)
    )


def test_no_goldens(bundle_copy):
    import dataclasses

    manifest = write_manifest(bundle_copy, dataclasses.replace(Bundle.open(bundle_copy).manifest, goldens=()))
    with refused(BundleError, got="has no goldens"):
        verify_goldens(Bundle(bundle_copy, manifest), NullRuntime(), Budget(max_abs_m=1.0))


# Lower precisions ---------------------------------------------------------------------------------------


class Ramp(NullRuntime):
    """Depth that grows over the rows from 1 to 5 m, changed by a function."""

    def __init__(self, change=lambda depth: depth):
        super().__init__()
        self.change = change

    def _infer(self, pixel_values):
        n, _, h, w = pixel_values.shape
        rows = np.linspace(1, 5, h, dtype=np.float32)[:, None]
        depth = np.broadcast_to(rows, (n, h, w)).copy()
        return np.asarray(self.change(depth), np.float32)


def put(value):
    def change(depth):
        depth[-1, 2, 3] = value
        return depth

    return change


@pytest.mark.parametrize(
    ("change", "passed", "said"),
    [
        (lambda d: d, True, ""),
        (lambda d: d * 1.009, True, ""),
        (lambda d: d * 1.011, False, "by AbsRel 0.011 and up to 0.055 m"),
        (lambda d: d + 1, False, "by AbsRel"),
        (put(np.nan), False, "and is not finite: NaN"),
        (put(np.inf), False, "and is not finite: infinite depth"),
        (lambda d: np.full_like(d, 3), False, "constant map"),
        (lambda d: 3 + (d - 3) * 0.05, False, "range collapsed"),
    ],
)
def test_a_budget_and_flags(change, passed, said):
    report = compare(Ramp(change), Ramp(), BATCHES, Budget(max_abs_rel=0.01))
    assert report.passed is passed
    assert [case.passed for case in report.cases] == [passed, passed]
    assert report.limit.max_abs_m is None
    assert "within AbsRel 0.01" in summary(report)
    json.dumps(report.to_dict(), allow_nan=False)
    if not passed:
        with pytest.raises(ParityError, match=said) as caught:
            report.require()
        assert "AbsRel at most 0.01 from null" in str(caught.value)


def test_a_flag_fails_what_the_limit_allows():
    report = compare(Ramp(lambda d: np.full_like(d, 3)), Ramp(), BATCHES, Budget(max_abs_m=100.0))
    assert [case.flags for case in report.cases] == [("constant",), ("constant",)]
    assert not report.passed
    assert describe_case(report.cases[0]).startswith("✗ small")
    with refused(ParityError, got="constant map"):
        report.require()


def test_a_budget_in_metres_as_well():
    report = compare(Ramp(put(7.0)), Ramp(), BATCHES, Budget(max_abs_rel=0.01, max_abs_m=1.0))
    assert not report.passed
    assert report.worst.stats.abs_rel < 0.01
    assert compare(Ramp(put(7.0)), Ramp(), BATCHES, Budget(max_abs_rel=0.01)).passed


def test_json_by_range_and_by_case():
    report = compare(Ramp(put(np.nan)), Ramp(), BATCHES, Budget(max_abs_rel=0.01)).to_dict()
    assert list(report["by_range"]) == ["0-1", "1-3", "3-10", "10-80"]
    assert sum(part["pixels"] for part in report["by_range"].values()) == 32 * 32 + 2 * 64 * 32
    assert report["by_range"]["0-1"] == {"pixels": 0}
    assert report["by_range"]["1-3"]["max_abs_m"] is None
    assert report["by_range"]["3-10"]["max_abs_m"] == 0
    assert [case["flags"] for case in report["cases"]] == [["nan"], ["nan"]]
    assert (report["tolerance_m"], report["max_abs_rel"]) == (None, 0.01)


def test_the_worst_image_is_kept():
    rng = np.random.default_rng(0)
    batches = [(str(n), rng.random((n, 3, 32, 32), np.float32)) for n in (1, 3)]

    def change(depth):
        depth[min(1, len(depth) - 1)] += 0.1 * len(depth)
        return depth

    report = compare(Ramp(change), Ramp(), batches, Budget(max_abs_rel=0.01))
    worst = report.worst_image
    assert worst.name == "3, image 2 of 3"
    np.testing.assert_array_equal(worst.pixel_values, batches[1][1][1])
    np.testing.assert_allclose(worst.candidate - worst.reference, 0.3, atol=1e-5)


def test_a_flagged_image_is_worse_than_a_wrong_one():
    batches = [(name, np.zeros((1, 3, 32, 32), np.float32)) for name in ("wrong", "flat", "good")]
    changes = iter((lambda d: d + 5, lambda d: np.full_like(d, 3), lambda d: d))
    report = compare(Ramp(lambda d: next(changes)(d)), Ramp(), batches, Budget(max_abs_m=0.1))
    assert report.worst.name == report.worst_image.name == "flat"
    assert [case.passed for case in report.cases] == [False, False, True]
