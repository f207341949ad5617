"""Headlines: only what is stable, right and surely faster; otherwise the reason."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks.report.rows import best_ceilings, headline, with_ceilings, within_budget
from glpn_deploy.benchmarks.workload.cases import CaseId


@pytest.fixture
def rows(samples, row):
    base = samples(20.0, 1)
    fast = row(samples(10.0, 2), baseline=base, backend="openvino")
    return [row(base, baseline=base), fast]


BASE = CaseId("onnxruntime", "fp32")


def test_the_fastest_that_is_right(rows) -> None:
    found = headline(rows, BASE, "torch fp32")
    assert found.fastest == "openvino fp32"
    assert str(found).startswith("1x96x128: openvino fp32 is 2.0")
    assert "AbsRel 1.0e-07 from torch fp32" in found.words
    assert "95 % interval" in found.words


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stable": False, "reasons": {"load": "x"}}, "1 were not stable"),
        ({"error": None}, "1 were too far"),
    ],
)
def test_what_is_not_stable_or_not_right_gets_none(change, reason, rows) -> None:
    found = headline([rows[0], dataclasses.replace(rows[1], **change)], BASE, "torch fp32")
    assert found.fastest is None
    assert reason in found.words


def test_an_unstable_or_missing_baseline_gives_none(rows) -> None:
    shaky = dataclasses.replace(rows[0], stable=False, reasons={"drift": "it became 9% slower"})
    assert "it became 9% slower" in headline([shaky, rows[1]], BASE, "torch fp32").words
    assert "did not run" in headline(rows[1:], BASE, None).words


def test_nothing_faster_is_said(samples, row) -> None:
    base = samples(20.0, 1)
    other = row(samples(20.0, 4), baseline=base, backend="openvino")
    found = headline([row(base, baseline=base), other], BASE, "torch fp32")
    assert "nothing is surely faster" in found.words
    assert found.fastest is None


def test_budgets_are_those_of_the_precision(samples, row) -> None:
    plain = row(samples(20.0, 1))
    for precision, abs_rel, fits in (("fp32", 1e-3, False), ("bf16", 1e-3, True), ("fp16", 0.5, False)):
        changed = row(samples(20.0, 1), precision=precision, error={**plain.error, "abs_rel": abs_rel})
        assert within_budget(changed) is fits
    assert not within_budget(row(samples(20.0, 1), error={**plain.error, "non_finite": 1}))


def test_shares_of_the_ceilings(samples, row) -> None:
    one = row({n: [10.0] for n in range(8)}, batch=2, disk_bytes=10**6)
    found = with_ceilings(one, 10**9, product=1e12, copy=1e10)
    assert found.gflops == 1
    assert found.product_share == pytest.approx(2e9 / 0.01 / 1e12)
    assert found.copy_share == pytest.approx((10**6 + 2 * 96 * 128 * 16) / 0.01 / 1e10)
    assert with_ceilings(one, None, None, None).product_share is None


def test_ceilings_are_the_best_of_all_shapes() -> None:
    first = best_ceilings({}, {"product_gflops_per_s": 50.0, "copy_gb_per_s": None, "by": "numpy"})
    both = best_ceilings(first, {"product_gflops_per_s": 40.0, "copy_gb_per_s": 9.0, "by": "numpy"})
    assert both == {
        "product_gflops_per_s": 50.0,
        "half_gflops_per_s": None,
        "copy_gb_per_s": 9.0,
        "by": "numpy",
    }
