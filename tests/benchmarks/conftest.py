"""Reports made from planted samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.latency_stats import (
    Drift,
    drift,
    ratio_in_turns,
    round_medians,
    summarize,
)
from glpn_deploy.benchmarks.measuring.rounds import CaseWorker
from glpn_deploy.benchmarks.options import RoundOptions
from glpn_deploy.benchmarks.report.results import Headline, Report, Row, Samples
from glpn_deploy.benchmarks.report.stability import judge_stability
from glpn_deploy.benchmarks.workload.cases import Case, CaseId, NotRun

MACHINE = {
    "processor": "2 cores",
    "system": "Linux x86_64",
    "memory_gib": 16,
    "gpu": None,
    "threads": "default",
    "power_mode": None,
}


def planted_samples(
    median_ms: float,
    seed: int,
    rounds: int = 15,
    runs: int = 8,
    *,
    noise: float = 0.03,
    wander: float = 0.01,
    block: int | None = None,
) -> Samples:
    """Latencies as they come: skewed within a round, rounds that wander and hang together, rare stalls.

    Rounds of a ``block`` share one level; without one, each level leans on the one before.
    """
    rng = np.random.default_rng(seed)
    level, found = 0.0, {}
    for number in range(rounds):
        if block is None:
            level = 0.6 * level + wander * rng.standard_normal()
        elif number % block == 0:
            level = wander * rng.standard_normal()
        values = median_ms * np.exp(level + noise * np.abs(rng.standard_normal(runs)))
        values[rng.random(runs) < 0.02] *= 3
        found[number] = [float(value) for value in values]
    return found


def planted_run(median_ms: float, seed: int, **how: Any) -> Samples:
    """As many rounds as glpn-bench makes by default: until they are settled, or its ten seconds are over."""
    worker = CaseWorker(
        case=Case(backend="null", precision="fp32", batch=1, height=96, width=128), process=None, loaded={}
    )
    for number, values in planted_samples(median_ms, seed, rounds=40, **how).items():
        worker.samples[number] = values
        if worker.settled(RoundOptions()):
            break
    return worker.samples


def planted_row(samples: Samples, baseline: Samples | None = None, **changes: Any) -> Row:
    latency, trend = summarize(samples), drift(round_medians(samples))
    ratio = None if baseline is None else ratio_in_turns(samples, baseline)
    steady = Drift(0.0, 1.0)  # samples that wander may drift, which has tests of its own
    reasons = judge_stability(latency, steady, Usage(), (), 0.1)
    row = Row(
        backend="onnxruntime",
        precision="fp32",
        batch=1,
        height=96,
        width=128,
        network_size=(96, 128),
        device="cpu",
        latency=latency,
        images_per_s=1e3 / latency.median_ms,
        stable=not reasons,
        reasons=reasons,
        samples=samples,
        warm_up={-1: [99.0]},
        cold_start={"process_s": 0.1, "load_s": 0.2, "first_call_s": 0.3},
        peak_memory_mib=100.0,
        stages={"decode": 1.0, "preprocess": 0.5, "compute": latency.median_ms, "postprocess": 0.25},
        error={
            "max_abs_m": 1e-6,
            "p99_abs_m": 1e-6,
            "mean_abs_m": 1e-7,
            "abs_rel": 1e-7,
            "delta1": 1.0,
            "non_finite": 0,
        },
        disk_bytes=3_800_000,
        speedup=None if ratio is None else ratio.inverse(),
        drift=trend,
    )
    return dataclasses.replace(row, **changes)


def planted_report(rows: list[Row], calibration: Samples | None = None, **changes: Any) -> Report:
    report = Report(
        source={
            "bundle": "glpn-tiny",
            "checkpoint": "0" * 64,
            "images": ["0.png"],
            "images_sha256": "1" * 64,
        },
        created="2026-01-01T00:00:00+00:00",
        machine=MACHINE,
        state={"before": {"load_average": [0.1, 0.1, 0.1]}, "after": {}},
        versions={"python": "3.12.0", "onnxruntime": "1.20.0"},
        settings={"rounds": {"half_width": 0.02, "seconds": 10.0}},
        rows=tuple(rows),
        not_run=(NotRun(CaseId("torch"), "torch is not installed"),),
        calibration=calibration or {},
        ceilings={
            "product_gflops_per_s": 50.0,
            "by": "numpy",
            "device": "cpu",
            "flops_by": None,
        },
        harness={"overhead_ms": 1e-4, "share_of_shortest": 1e-6},
        baseline="onnxruntime fp32",
        reference="torch fp32",
        headlines=(Headline("1x96x128", "no headline, the baseline torch fp32 did not run"),),
    )
    return dataclasses.replace(report, **changes)


@pytest.fixture
def samples() -> Callable[..., Samples]:
    return planted_samples


@pytest.fixture
def measured() -> Callable[..., Samples]:
    return planted_run


@pytest.fixture
def row() -> Callable[..., Row]:
    return planted_row


@pytest.fixture
def report() -> Callable[..., Report]:
    return planted_report
