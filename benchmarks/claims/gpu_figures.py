"""Measures what is claimed of GPUs, in one run: Hugging Face, torch.compile, ONNX Runtime and TensorRT.

    python -m glpn_deploy.benchmarks.claims.gpu_bundles DIR
    glpn-build DIR/glpn-nyu-random --precision fp32,fp16,int8 --profile 1x480x640
    python -m glpn_deploy.benchmarks.claims.gpu_figures DIR --out benchmarks/results/gpu

The engines that it finds are measured beside the others. Where TensorRT belongs to another Python than torch,
name it with ``--python tensorrt=PATH``; it must find this package in the present folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from glpn_deploy.benchmarks.claims.gpu_bundles import NYU, checkpoint_folder
from glpn_deploy.benchmarks.measuring.latency_stats import ratio_in_turns
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.results import Row, rounded
from glpn_deploy.benchmarks.report.written import write_reports
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import CaseId
from glpn_deploy.cli.app import command
from glpn_deploy.cli.console import output
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.options import Option

EAGER, EAGER_HALF = CaseId("hf-eager", "fp32"), CaseId("hf-eager", "fp16")
COMPILED = (CaseId("torch-compile", "fp16"), CaseId("hf-compile", "fp16"))
HALF, UNGRAPHED = CaseId("tensorrt", "fp16"), CaseId("tensorrt-nograph", "fp16")
BACKENDS = ("torch-compile", "onnxruntime", "tensorrt", "tensorrt-nograph")
PEERS = ("hf-eager", "hf-compile")
FP16_BUDGET, PRODUCT_SHARE, LARGE_BATCH = 0.001, 0.35, 16


def judge(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures asked for, from the rows of one shape: ratios are medians over the rounds of both.

    Returns:
        By figure ``value`` and ``asked``, and ``reached``, which is None where a row is missing.
    """
    by_id = {row.id.runner: row for row in rows}
    compiled = min(
        (by_id[runner] for runner in COMPILED if runner in by_id),
        key=lambda row: row.latency.median_ms,
        default=None,
    )
    half = by_id.get(HALF)
    found = {
        "times_hf_eager_fp32": (_times(half, by_id.get(EAGER)), 4.0),
        "times_hf_eager_fp16": (_times(half, by_id.get(EAGER_HALF)), 2.0),
        "times_torch_compile_fp16": (_times(half, compiled), 1.0),
        "times_without_cuda_graph": (_times(half, by_id.get(UNGRAPHED)), 1.0),
    }
    if rows and rows[0].batch >= LARGE_BATCH:
        found["share_of_fp16_product"] = (half.product_share if half else None, PRODUCT_SHARE)
    figures: dict[str, Any] = {
        name: {"value": value, "asked": asked, "reached": None if value is None else value >= asked}
        for name, (value, asked) in found.items()
    }
    error = half.error.get("abs_rel") if half and half.error else None
    reached = None if error is None else error <= FP16_BUDGET
    figures["fp16_abs_rel"] = {"value": error, "asked": FP16_BUDGET, "reached": reached}
    return figures


def _times(row: Row | None, other: Row | None) -> float | None:
    """How many times as fast ``row`` is as ``other``, or None where one is missing or they never met."""
    if row is None or other is None:
        return None
    ratio = ratio_in_turns(row.samples, other.samples)
    return None if ratio is None else ratio.inverse().value


def run(
    folder: Annotated[Path, Option("What gpu_bundles made, and glpn-build after it.", argument=True)],
    out: Annotated[Path, Option("Folder of the reports and gpu_figures.json.")],
    options: partial[BenchOptions],
) -> None:
    """Measure glpn-nyu's architecture on this GPU, with the engines that were built.

    All cases live at the same time, so that all meet in every round. Options are glpn-bench's.
    """
    console = output(as_json=False)
    device = find_device()
    typed = {"backends": BACKENDS, "precisions": ("fp32", "fp16", "int8"), "peers": PEERS, **options.keywords}
    fixed = {"reference": str(checkpoint_folder(folder)), "device": "cuda", "allow_fallback": True}
    typed.setdefault("baseline", "hf-eager" if "hf-eager" in typed["peers"] else None)
    report = run_sweep(folder / NYU, BenchOptions(**{**typed, **fixed, "max_workers": 24}))
    write_reports(report, out)
    shapes = dict.fromkeys(row.shape for row in report.rows)
    figures = {
        "format": "glpn-deploy-gpu-figures",
        "format_version": 1,
        "gpu": {"name": device.name, "sm": device.capability, "driver_cuda": device.cuda},
        "network": "glpn-nyu's architecture, random weights",
        "versions": report.versions,
        "ceilings": report.ceilings,
        "shapes": {shape: judge([row for row in report.rows if row.shape == shape]) for shape in shapes},
        "median_ms": {row.key: row.latency.median_ms for row in report.rows},
        "runtimes": {row.key: row.runtime for row in report.rows},
        "not_run": {item.name: item.reason for item in report.not_run},
    }
    text = json.dumps(rounded(figures), indent=2, allow_nan=False) + "\n"
    (out / "gpu_figures.json").write_text(text, encoding="utf-8")
    for line in (*report.answers, *(f"not run: {i.name}: {i.reason}" for i in report.not_run), text):
        console.print(line, markup=False)


main = command(run)

if __name__ == "__main__":
    main()
