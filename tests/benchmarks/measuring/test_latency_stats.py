"""Latency statistics against scipy and planted trends."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from glpn_deploy.benchmarks.measuring.latency_stats import (
    drift,
    ratio_in_turns,
    ratio_of_medians,
    rounds_interval,
    summarize,
)


def test_a_summary_by_numpy_and_scipy(samples) -> None:
    rounds = samples(20.0, seed=1, rounds=20, runs=10)
    every = np.concatenate(list(rounds.values()))
    found = summarize(rounds)
    assert found.median_ms == np.median(every)
    assert found.mad_ms == pytest.approx(scipy.stats.median_abs_deviation(every))
    assert (found.p90_ms, found.p95_ms, found.p99_ms) == tuple(np.percentile(every, (90, 95, 99)))
    assert (found.runs, found.rounds) == (200, 20)
    assert found.low_ms < found.median_ms < found.high_ms


def test_percentiles_need_their_number_of_runs(samples) -> None:
    found = summarize(samples(20.0, seed=1, rounds=6, runs=4))
    assert found.p90_ms is not None
    assert found.p95_ms is not None
    assert found.p99_ms is None  # of 24 runs the 99th percentile is the maximum's neighbour


def test_few_rounds_give_no_interval_however_many_runs(samples) -> None:
    found = summarize(samples(20.0, seed=1, rounds=5, runs=500))
    assert found.low_ms is None
    assert found.half_width == float("inf")


def test_what_slows_a_round_cancels_in_the_ratio(samples) -> None:
    a, b = samples(30.0, seed=1), samples(15.0, seed=2)
    slow = {r: 1 + r % 4 for r in a}
    ratio = ratio_in_turns(
        {r: [v * slow[r] for v in a[r]] for r in a}, {r: [v * slow[r] for v in b[r]] for r in b}
    )
    assert ratio.value == pytest.approx(2, rel=0.02)
    assert ratio.low < 2 < ratio.high
    assert ratio_in_turns({0: [1.0]}, {1: [1.0]}) is None


def test_the_interval_of_a_ratio_covers_it() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        a, b = rng.lognormal(np.log(21), 0.03, 14), rng.lognormal(np.log(20), 0.05, 11)
        ratio = ratio_of_medians(list(a), list(b))
        hits += ratio.low <= 1.05 <= ratio.high
    assert hits >= 950


def wandering(rng: np.random.Generator, n: int, likeness: float) -> np.ndarray:
    """Values about 20 whose first autocorrelation is planted."""
    steps = 0.02 * np.sqrt(1 - likeness**2) * rng.standard_normal(n)
    level = [0.02 * rng.standard_normal()]
    for step in steps[1:]:
        level.append(likeness * level[-1] + step)
    return 20 * np.exp(level)


@pytest.mark.parametrize(("likeness", "rounds"), [(0.0, 10), (0.3, 20), (0.6, 40)])
def test_the_interval_covers_the_median_of_rounds_that_hang_together(likeness, rounds) -> None:
    rng = np.random.default_rng(0)
    ends = [rounds_interval(list(wandering(rng, rounds, likeness))) for _ in range(1000)]
    assert sum(low <= 20 <= high for low, high in ends) >= 930


def test_rounds_that_do_not_hang_together_keep_their_interval() -> None:
    assert rounds_interval([20.0] * 10) == (20.0, 20.0)
    turns = [19.0, 21.0] * 6
    assert rounds_interval(turns) == pytest.approx((19.0, 21.0))


def test_drift_by_scipy() -> None:
    rng = np.random.default_rng(3)
    values = 10 * (1 + np.linspace(0, 0.2, 25)) + 0.1 * rng.standard_normal(25)
    found = drift(list(values))
    slope = scipy.stats.theilslopes(values).slope
    assert found.share == pytest.approx(slope * 24 / np.median(values))
    assert found.share == pytest.approx(0.18, abs=0.03)
    assert found.p < 1e-6
    noise = rng.standard_normal(25)
    tau = scipy.stats.kendalltau(range(25), noise, method="asymptotic")
    assert drift(list(10 + noise)).p == pytest.approx(
        tau.pvalue, abs=0.05
    )  # but for its continuity correction
