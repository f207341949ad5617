"""A CPU's figures beside the peers that people would really take, precision by precision, in turns.

Optimum's export in ONNX Runtime and in OpenVINO, and the same quantized by NNCF, onnxruntime.quantization and
nvidia-modelopt, beside this package's files. Ranges of ours and theirs are found on the same photographs, and
how far the demo network's depth moves is measured on the rooms that theirs were found on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from glpn_deploy.benchmarks.claims.cpu import ROWS, abs_rel, export_networks, rows, sweep_nyu
from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.benchmarks.measuring.latency_stats import ratio_in_turns
from glpn_deploy.benchmarks.options import RoundOptions
from glpn_deploy.benchmarks.report.results import Report, Row, rounded

BACKENDS = ("onnxruntime", "openvino")
PEERS = ("optimum", "openvino-optimum", "nncf", "ort-static", "modelopt")
RIVALS: Mapping[str, Sequence[str]] = {
    "openvino fp32": ("openvino-optimum fp32",),
    "openvino bf16": ("openvino-optimum bf16",),
    "openvino int8": ("nncf int8",),
    "openvino int8+bf16": ("nncf int8+bf16",),
    "onnxruntime fp32": ("optimum fp32",),
    "onnxruntime int8": ("ort-static int8", "modelopt int8"),
}
"""Each of our rows, and the peers' that do the same; the fastest of them is what ours is compared with."""


def measure(options: FigureOptions) -> dict[str, Any]:
    """Both networks with their INT8 files, then the rows."""
    folder, python = options.folder, options.optimum
    photos = export_networks(folder)
    asked = dataclasses.replace(
        ROWS,
        backends=BACKENDS,
        baseline="openvino-optimum:fp32",
        peers=PEERS,
        pythons={} if python is None else dict.fromkeys(("optimum", "nncf"), python),
        rounds=RoundOptions(half_width=0.02, seconds=12.0),
    )
    return {**beside(sweep_nyu(folder, photos, asked)), "abs_rel": abs_rel(folder, asked)}


def beside(report: Report) -> dict[str, Any]:
    """Every row's median [ms], and each of ours as times as fast as its peer, with the interval."""
    by_name = {str(row.id.runner): row for row in report.rows}
    compared = {}
    for ours, rivals in RIVALS.items():
        ran = [name for name in rivals if name in by_name]
        if ours in by_name and ran:
            rival = min(ran, key=lambda name: by_name[name].latency.median_ms)
            compared[ours] = {"peer": rival, **_times_as_fast(by_name[ours], by_name[rival])}
    not_run = {item.name: item.reason for item in report.not_run}
    return {"rows": rows(report), "times_as_fast": rounded(compared), "not_run": not_run}


def _times_as_fast(ours: Row, theirs: Row) -> dict[str, Any]:
    ratio = ratio_in_turns(theirs.samples, ours.samples)
    return {} if ratio is None else dataclasses.asdict(ratio)
