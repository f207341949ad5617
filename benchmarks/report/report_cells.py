"""A report's figures as text: the one place where columns, units and rounding are decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glpn_deploy.benchmarks.measuring.latency_stats import Ratio
from glpn_deploy.benchmarks.report.results import Report, Row

BRIEF = {
    "median, ms": "ms",
    "images/s": "images/s",
    "times baseline": "× baseline",
    "AbsRel to reference": "AbsRel",
    "memory, MiB": "MiB",
}
"""The columns that fit a phone and a terminal of 80 characters, and their names there."""
STAGES = ("decode", "preprocess", "host_to_device", "compute", "device_to_host", "postprocess")


def cells(row: Row) -> dict[str, str]:
    """The row's text by column; an empty text where nothing is known."""
    latency, error = row.latency, row.error or {}
    return {
        "median, ms": milliseconds(latency.median_ms),
        "±": "" if latency.low_ms is None else f"{latency.half_width:.1%}",
        "MAD, ms": milliseconds(latency.mad_ms),
        "p90, ms": _told(milliseconds, latency.p90_ms),
        "p95, ms": _told(milliseconds, latency.p95_ms),
        "p99, ms": _told(milliseconds, latency.p99_ms),
        "images/s": images_per_s(row),
        "times baseline": ratio_text(row.speedup),
        "AbsRel to reference": (
            "NaN or infinite" if error.get("non_finite") else _told("{:.1e}".format, error.get("abs_rel"))
        ),
        "worst pixel, m": _told("{:.1e}".format, error.get("max_abs_m")),
        "first depth, s": f"{sum(row.cold_start.values()):.2f}",
        "memory, MiB": _told("{:.0f}".format, row.peak_memory_mib),
        "GPU memory, MiB": _told("{:.0f}".format, row.device_memory_mib),
        "on disk, MB": _told(lambda size: f"{size / 1e6:.1f}", row.disk_bytes),
        "J/image": _told("{:.3g}".format, row.energy_j),
        "of product": _told("{:.0%}".format, row.product_share),
    }


def _told(text: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else text(value)


def images_per_s(row: Row) -> str:
    """Three significant digits, no exponent."""
    return f"{row.images_per_s:.3g}" if row.images_per_s < 1000 else f"{row.images_per_s:.0f}"


def used_columns(rows: Sequence[Row]) -> list[str]:
    """The columns in which some row has something to say."""
    texts = [cells(row) for row in rows]
    return [name for name in texts[0] if any(text[name] for text in texts)] if texts else []


def ratio_text(ratio: Ratio | None) -> str:
    """``2.10 (2.05 to 2.14)``."""
    if ratio is None:
        return ""
    if ratio.low is None or ratio.low == ratio.high:  # the baseline itself
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
    product, half = ceilings.get("product_gflops_per_s"), ceilings.get("half_gflops_per_s")
    told = "No ceiling was measured"
    if product is not None:
        told = f"In the same run an FP32 matrix product reached {product:.0f} GFLOP/s"
        told += f" ({ceilings['by']}, {ceilings['device']})"
    if half is not None:
        told += f", an FP16 one, of which rows below FP32 are given shares, {half:.0f}"
    counted = ceilings.get("flops_by")
    how = f"counted by {counted}" if counted else "not counted (torch is not installed)"
    return f"{told}; arithmetic {how}."
