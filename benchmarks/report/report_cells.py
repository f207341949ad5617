"""A report's figures as text: the one place where columns, units and rounding are decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glpn_deploy.benchmarks.measuring.latency_stats import Ratio
from glpn_deploy.benchmarks.report.results import Report, Row

COLUMNS = (
    "median, ms",
    "±",
    "MAD, ms",
    "p90, ms",
    "p95, ms",
    "p99, ms",
    "images/s",
    "times baseline",
    "AbsRel to reference",
    "worst pixel, m",
    "first depth, s",
    "memory, MiB",
    "GPU memory, MiB",
    "on disk, MB",
    "J/image",
    "of product",
)
BRIEF = {
    "median, ms": "ms",
    "images/s": "images/s",
    "times baseline": "× baseline",
    "AbsRel to reference": "AbsRel",
    "memory, MiB": "MiB",
}
"""The columns that fit a phone and a terminal of 80 characters, and their names there."""
STAGES = ("decode", "preprocess", "host_to_device", "compute", "device_to_host", "postprocess")
STAGE_NAMES = {
    "decode": "decode",
    "preprocess": "preprocess",
    "host_to_device": "host to device",
    "compute": "compute",
    "device_to_host": "device to host",
    "postprocess": "postprocess",
}


def cells(row: Row) -> dict[str, str]:
    """The row's text by column; an empty text where nothing is known."""
    latency, error = row.latency, row.error or {}
    worst, abs_rel = error.get("max_abs_m"), error.get("abs_rel")
    broken = bool(error.get("non_finite"))
    return {
        "median, ms": milliseconds(latency.median_ms),
        "±": "" if latency.low_ms is None else f"{latency.half_width:.1%}",
        "MAD, ms": milliseconds(latency.mad_ms),
        "p90, ms": _optional(latency.p90_ms),
        "p95, ms": _optional(latency.p95_ms),
        "p99, ms": _optional(latency.p99_ms),
        "images/s": images_per_s(row),
        "times baseline": ratio_text(row.speedup),
        "AbsRel to reference": "NaN or infinite" if broken else "" if abs_rel is None else f"{abs_rel:.1e}",
        "worst pixel, m": "" if worst is None else f"{worst:.1e}",
        "first depth, s": f"{sum(row.cold_start.values()):.2f}",
        "memory, MiB": "" if row.peak_memory_mib is None else f"{row.peak_memory_mib:.0f}",
        "GPU memory, MiB": "" if row.device_memory_mib is None else f"{row.device_memory_mib:.0f}",
        "on disk, MB": "" if row.disk_bytes is None else f"{row.disk_bytes / 1e6:.1f}",
        "J/image": "" if row.energy_j is None else f"{row.energy_j:.3g}",
        "of product": "" if row.product_share is None else f"{row.product_share:.0%}",
    }


def images_per_s(row: Row) -> str:
    """Three significant digits, no exponent."""
    return f"{row.images_per_s:.3g}" if row.images_per_s < 1000 else f"{row.images_per_s:.0f}"


def used_columns(rows: Sequence[Row]) -> list[str]:
    """The columns in which some row has something to say."""
    texts = [cells(row) for row in rows]
    return [name for name in COLUMNS if any(text[name] for text in texts)]


def _optional(value: float | None) -> str:
    return "" if value is None else milliseconds(value)


def ratio_text(ratio: Ratio | None) -> str:
    """``2.10 (2.05 to 2.14)``."""
    if ratio is None:
        return ""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}"
    if ratio.low == ratio.high:  # the baseline itself
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def milliseconds(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def conditions(report: Report) -> list[str]:
    """What the figures were taken on and how, one sentence a line."""
    machine, settings, versions = report.machine, report.settings, report.versions
    backends = sorted({row.backend for row in report.rows} & versions.keys())
    ran = ", ".join(f"{name} {versions[name]}" for name in backends)
    where = machine["processor"] + (f", {machine['gpu']}" if machine.get("gpu") else "")
    before = report.state.get("before", {})
    load = before.get("load_average", ["unknown"])[0]
    lines = [
        f"{report.source['bundle']} on {where}, {machine['system']}, threads {machine['threads']}; {ran}.",
        f"Load average {load} at the start"
        + "".join(
            f", {words} {before[name]}"
            for name, words in (("governor", "governor"), ("frequency_mhz", "MHz"))
            if before.get(name)
        )
        + ".",
        "Each case in a fresh process, all interleaved in rounds; ± is half the 95 % interval of the median "
        f"over rounds, aimed at {settings['rounds']['half_width']:.1%} "
        f"within {settings['rounds']['seconds']:g} s a case. "
        "A run takes and gives arrays on the host: the device has finished when its time is taken.",
        f"Inputs in turns: {', '.join(report.source['images'])}, cut and resized to the shape.",
    ]
    if report.reference:
        lines.append(
            f"Errors are against {report.reference} on the same inputs, in metres where not a share."
        )
    if report.baseline:
        lines.append(f"Ratios are to {report.baseline}, the median over rounds, with its 95 % interval.")
    lines.append(_ceilings(report.ceilings))
    overhead = report.harness
    lines.append(
        f"The timing loop itself reads {overhead['overhead_ms'] * 1e3:.2f} µs, "
        f"{overhead['share_of_shortest']:.4%} of the shortest case."
    )
    return lines


def _ceilings(ceilings: dict[str, Any]) -> str:
    product, copy = ceilings.get("product_gflops_per_s"), ceilings.get("copy_gb_per_s")
    parts = []
    if product is not None:
        parts.append(
            f"an FP32 matrix product reached {product:.0f} GFLOP/s ({ceilings['by']}, {ceilings['device']})"
        )
    if ceilings.get("half_gflops_per_s") is not None:
        parts.append(
            f"an FP16 one, of which rows below FP32 are given shares, {ceilings['half_gflops_per_s']:.0f}"
        )
    if copy is not None:
        parts.append(f"a copy {copy:.1f} GB/s")
    counted = ceilings.get("flops_by")
    tail = (
        f"; arithmetic counted by {counted}"
        if counted
        else "; arithmetic not counted (torch is not installed)"
    )
    return (f"In the same run {' and '.join(parts)}" if parts else "No ceilings were measured") + tail + "."
