"""From raw samples to rows: figures, stability, ratios, shares of the ceilings, and the headline."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from glpn_deploy.benchmarks.measuring.latency_stats import (
    Ratio,
    drift,
    ratio_in_turns,
    ratio_of_medians,
    round_medians,
    summarize,
)
from glpn_deploy.benchmarks.measuring.rounds import CaseWorker
from glpn_deploy.benchmarks.report.report_cells import milliseconds
from glpn_deploy.benchmarks.report.results import Headline, Row, fastest_first
from glpn_deploy.benchmarks.report.stability import judge_stability
from glpn_deploy.benchmarks.workload.ceilings import count_flops
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.precisions import PRECISION_INFO

_RATES = ("product_gflops_per_s", "half_gflops_per_s")
_REFERENCE_ABS_REL = 1e-4
"""An FP32 row whose depth is farther from the reference's is not the same network; bundles promise less."""


def make_row(worker: CaseWorker, half_width: float, throttled_cpu: bool, extra: dict[str, Any]) -> Row:
    """A measured case as a row; ratios and errors are filled in when all cases of its shape are known.

    Args:
        worker: The case's, at least one round measured.
        half_width: Half the median's interval that was asked for, as a share of the median.
        throttled_cpu: Whether the processor was slowed by heat while it was measured.
        extra: Accuracy, disk size and so on, by the row's field names.
    """
    case, loaded = worker.case, worker.loaded
    latency = summarize(worker.samples)
    trend = drift(round_medians(worker.samples))
    throttled = worker.throttled + (["processor heat"] if throttled_cpu else [])
    reasons = judge_stability(latency, trend, worker.usage, throttled, half_width)
    stages = {name: statistics.median(taken) for name, taken in (worker.stages or {}).items()}
    if stages:
        stages.setdefault("compute", latency.median_ms)
    energy = None if worker.energy_j is None or not worker.images else worker.energy_j / worker.images
    return Row(
        backend=case.label or case.backend,
        precision=case.precision,
        batch=case.batch,
        height=case.height,
        width=case.width,
        network_size=(loaded["network_size"][0], loaded["network_size"][1]),
        device=loaded["device"],
        latency=latency,
        images_per_s=case.batch / latency.median_ms * 1e3,
        stable=not reasons,
        reasons=reasons,
        samples=dict(worker.samples),
        warm_up=dict(worker.warm_up),
        cold_start={
            "process_s": worker.process.start_s,
            "load_s": loaded["load_s"],
            "first_call_s": loaded["first_call_s"],
        },
        peak_memory_mib=worker.peak_mib,
        energy_j=energy,
        stages=stages,
        drift=trend,
        others=max(0.0, worker.usage.others),
        stolen=worker.usage.stolen,
        **extra,
    )


def with_speedup(row: Row, baseline: CaseWorker | None) -> Row:
    """The row with its ratio to the baseline that ran in the same rounds."""
    if baseline is None or not baseline.samples:
        return row
    ratio = ratio_in_turns(row.samples, baseline.samples)
    return row if ratio is None else dataclasses.replace(row, speedup=ratio.inverse())


def with_ceilings(row: Row, flops: int | None, product: float | None) -> Row:
    """The row with its share of the ceilings.

    Args:
        row: A row.
        flops: Arithmetic of one image, or None where it could not be counted.
        product: The matrix product's rate [operations/s].
    """
    if flops is None:
        return row
    share = None if product is None else flops * row.batch / (row.latency.median_ms / 1e3) / product
    return dataclasses.replace(row, gflops=flops / 1e9, product_share=share)


def best_ceilings(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Ceilings are the best that was seen."""
    both = {**known, **new}
    for name in _RATES:
        values = [part[name] for part in (known, new) if part.get(name) is not None]
        both[name] = max(values, default=None)
    return both


def share_of_ceilings(rows: list[Row], config: GLPNConfig, ceilings: dict[str, Any]) -> list[Row]:
    """The rows with their shares of the ceilings; ``flops_by`` is added to these."""
    counts: dict[tuple[int, int], int | None] = {}
    for size in {row.network_size for row in rows}:
        with contextlib.suppress(Exception):  # a count that torch cannot make is left out, and stands as null
            counts[size] = count_flops(config, *size)
    ceilings["flops_by"] = "torch.utils.flop_counter" if any(counts.values()) else None
    product, half = (ceilings[name] * 1e9 if ceilings.get(name) else None for name in _RATES)
    return [
        with_ceilings(
            row,
            counts.get(row.network_size),
            half if half is not None and row.precision != "fp32" and row.device != "cpu" else product,
        )
        for row in rows
    ]


def within_budget(row: Row, within: float | None = None) -> bool:
    """Whether the row's depth is near enough to the reference's to be recommended.

    Args:
        row: A row.
        within: Largest AbsRel; None takes what the row's precision is allowed by default.
    """
    error = row.error
    if error is None or error["non_finite"] or error["abs_rel"] is None:
        return False
    return bool(error["abs_rel"] <= (budget(row.precision) if within is None else within))


def budget(precision: str) -> float:
    """Largest AbsRel that a precision is allowed by default; int8+bf16 what int8 is."""
    known = PRECISION_INFO.get(precision.partition("+")[0])
    return known.max_abs_rel if known and known.max_abs_rel is not None else _REFERENCE_ABS_REL


def headline(rows: Sequence[Row], asked: float, within: float | None = None) -> Headline:
    """The fastest row of one shape that is right, and than which other it surely is.

    Two rows are told apart where the 95 % interval of the ratio of their times leaves out 1: in the rounds
    that they share, where what slows the machine down slows both.

    Args:
        rows: Of one shape.
        asked: Half the interval of a median that was aimed at, as a share of the median.
        within: As `within_budget`.
    """
    fit = fastest_first(row for row in rows if within_budget(row, within))
    if not fit:
        return Headline(rows[0].shape, "no headline: no row's depth is near enough to the reference's")
    best, *others = fit
    ratios = [ratio_in_turns(other.samples, best.samples) or _apart(other, best) for other in others]
    surely = next((i for i, ratio in enumerate(ratios) if ratio.low is not None and ratio.low > 1), None)
    words = f"Fastest: {best.id.runner}, {milliseconds(best.latency.median_ms)} ms"
    alike = [str(other.id.runner) for other in others[:surely]]
    if alike:
        words += f", not told apart from {'any other' if surely is None else ', '.join(alike)}"
    if surely is not None:
        words += f", surely faster than {others[surely].id.runner} ({ratios[surely].value:.2f} times)"
    assert best.error is not None
    words += f", AbsRel {best.error['abs_rel']:.2g}"
    widest = max((r.latency.half_width for r in rows if math.isfinite(r.latency.half_width)), default=0.0)
    if widest > asked:
        words += f"; a noisy machine: take ms as ±{widest:.0%}"
    return Headline(best.shape, words, None if alike else str(best.id.runner))


def _apart(other: Row, best: Row) -> Ratio:
    """The ratio of two rows that share no round, as in a machine whose memory did not take all of them."""
    return ratio_of_medians(round_medians(other.samples), round_medians(best.samples))
