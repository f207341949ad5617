"""Headlines: the fastest row that is right, and than which it surely is, by ratios within rounds."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks.report.rows import best_ceilings, headline, with_ceilings, within_budget


@pytest.fixture
def rows(samples, row):
    base = samples(20.0, 1)
    fast = row(samples(10.0, 2), baseline=base, backend="openvino")
    return [row(base, baseline=base), fast]


def test_the_fastest_that_is_right(rows) -> None:
    found = headline(rows, 0.2)
    assert found.fastest == "openvino fp32"
    told = rows[1].latency.median_ms
    start = f"Fastest: openvino fp32, {told:.1f} ms, surely faster than onnxruntime fp32 (2.0"
    assert found.words.startswith(start)
    assert found.words.endswith("AbsRel 1e-07")


def test_what_slows_both_down_in_a_round_hides_no_difference(samples, row) -> None:
    """Rounds twice as slow as others make intervals wide; the ratio within rounds is 1.25 in all."""
    slow = {n: [20.0 * (1 + n % 2)] * 4 for n in range(16)}
    fast = {n: [ms / 1.25 for ms in values] for n, values in slow.items()}
    pair = [row(slow, baseline=slow), row(fast, baseline=slow, backend="openvino")]
    assert not pair[1].stable
    found = headline(pair, 0.02)
    assert found.fastest == "openvino fp32"
    assert "surely faster than onnxruntime fp32 (1.25 times)" in found.words
    widest = max(one.latency.half_width for one in pair)
    assert found.words.endswith(f"a noisy machine: take ms as ±{widest:.0%}")


def test_a_row_that_is_too_far_from_the_reference_is_passed_over(rows) -> None:
    far = dataclasses.replace(rows[1], error={**rows[1].error, "abs_rel": 5e-3})
    assert headline([rows[0], far], 0.2).fastest == "onnxruntime fp32"
    assert headline([rows[0], far], 0.2, within=0.01).fastest == "openvino fp32"
    unknown = [dataclasses.replace(one, error=None) for one in rows]
    assert headline(unknown, 0.2).words.startswith("no headline")


def test_what_cannot_be_told_apart_is_named(samples, row) -> None:
    base = samples(20.0, 1)
    pair = [row(base, baseline=base), row(samples(20.0, 4), baseline=base, backend="openvino")]
    found = headline(pair, 0.2)
    assert found.fastest is None
    assert "not told apart from any other" in found.words
    found = headline([*pair, row(samples(90.0, 5), baseline=base, backend="torch")], 0.2)
    assert found.fastest is None
    assert "surely faster than torch fp32" in found.words
    assert "any other" not in found.words


def test_rows_without_a_common_round_are_told_apart_all_the_same(samples, row) -> None:
    later = {n + 100: values for n, values in samples(10.0, 2).items()}
    found = headline([row(samples(20.0, 1)), row(later, backend="openvino")], 0.2)
    assert found.fastest == "openvino fp32"


def test_budgets_are_those_of_the_precision(samples, row) -> None:
    plain = row(samples(20.0, 1))
    for precision, abs_rel, fits in (("fp32", 1e-3, False), ("bf16", 1e-3, True), ("fp16", 0.5, False)):
        changed = row(samples(20.0, 1), precision=precision, error={**plain.error, "abs_rel": abs_rel})
        assert within_budget(changed) is fits
    assert not within_budget(row(samples(20.0, 1), error={**plain.error, "non_finite": 1}))


def test_shares_of_the_ceilings(samples, row) -> None:
    one = row({n: [10.0] for n in range(8)}, batch=2, disk_bytes=10**6)
    found = with_ceilings(one, 10**9, product=1e12)
    assert found.gflops == 1
    assert found.product_share == pytest.approx(2e9 / 0.01 / 1e12)
    assert with_ceilings(one, None, None).product_share is None


def test_ceilings_are_the_best_of_all_shapes() -> None:
    first = best_ceilings({}, {"product_gflops_per_s": 50.0, "half_gflops_per_s": None, "by": "numpy"})
    both = best_ceilings(first, {"product_gflops_per_s": 40.0, "half_gflops_per_s": 9.0, "by": "numpy"})
    assert both == {"product_gflops_per_s": 50.0, "half_gflops_per_s": 9.0, "by": "numpy"}
