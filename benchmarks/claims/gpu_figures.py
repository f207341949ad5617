"""Measures what is claimed of GPUs, in one run: Hugging Face, torch.compile, ONNX Runtime and TensorRT.

    python -m glpn_deploy.benchmarks.claims.gpu_figures prepare DIR
    glpn-build DIR/glpn-nyu-random --precision fp32 --precision fp16 --precision int8 --profile 1x480x640
    python -m glpn_deploy.benchmarks.claims.gpu_figures run DIR --out benchmarks/results/gpu

``prepare`` needs torch and no GPU. ``run`` measures the engines that it finds, beside the others. Where
TensorRT belongs to another Python than torch, name it with ``--python tensorrt=PATH``; it must find this
package in the present folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.gpu_bundles import NETWORKS, NYU, checkpoint_folder, prepare
from glpn_deploy.benchmarks.claims.running import StepLines
from glpn_deploy.benchmarks.measuring.latency_stats import ratio_in_turns
from glpn_deploy.benchmarks.options import BenchOptions, RoundOptions
from glpn_deploy.benchmarks.report.results import Report, Row, rounded
from glpn_deploy.benchmarks.report.written import write_reports
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import CaseId
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.runtimes.base import PRECISIONS

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


def run(folder: Path, options: BenchOptions, out: Path) -> Report:
    """Measures and writes the reports of `glpn_deploy.benchmarks.report.written` and ``gpu_figures.json``.

    Raises:
        BackendError: There is no GPU.
        GlpnError: Nothing could be measured.
    """
    device = find_device()
    report = run_sweep(folder / NYU, options)
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
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("prepare", help="make the bundles and goldens; what is there stays")
    making.add_argument("folder", type=Path)
    making.add_argument("--only", choices=NETWORKS, action="append", help="one network; may be repeated")
    measuring = commands.add_parser("run", help="measure, with the engines that were built")
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--out", type=Path, required=True, help="folder of the reports")
    measuring.add_argument("--shapes", default="480x640", help="sizes, separated by commas")
    measuring.add_argument("--batches", default="1", help="images a run, separated by commas")
    measuring.add_argument("--backends", default=",".join(BACKENDS))
    measuring.add_argument("--peers", default=",".join(PEERS))
    measuring.add_argument("--precisions", default="fp32,fp16,int8")
    measuring.add_argument("--seconds", type=float, default=4.0, help="of a case in rounds")
    measuring.add_argument("--python", action="append", default=[], metavar="BACKEND=PYTHON")
    given = parser.parse_args(arguments)
    try:
        if given.command == "prepare":
            with progress.shown(StepLines()):
                prepare(given.folder, given.only or NETWORKS)
        else:
            with progress.shown(StepLines()):
                report = run(given.folder, _options(given), given.out)
            print(*report.headlines, *(f"not run: {i.name}: {i.reason}" for i in report.not_run), sep="\n")
            print((given.out / "gpu_figures.json").read_text(encoding="utf-8"))
    except GlpnError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _options(given: argparse.Namespace) -> BenchOptions:
    """The sweep that is asked for; all cases live at the same time, so that all meet in every round."""
    words = {name: tuple(filter(None, getattr(given, name).split(","))) for name in ("backends", "peers")}
    pythons = dict(word.partition("=")[::2] for word in given.python)
    sizes = [size.partition("x") for size in given.shapes.split(",")]
    try:
        shapes = tuple((int(height), int(width)) for height, _, width in sizes)
        batches = tuple(int(batch) for batch in given.batches.split(","))
    except ValueError:
        raise InputError(
            f"--shapes {given.shapes} --batches {given.batches} cannot be read",
            expected="480x640,352x1216 and 1,4,16",
        ) from None
    return BenchOptions(
        allow_fallback=True,
        backends=words["backends"],
        precisions=tuple(precision for precision in PRECISIONS if precision in given.precisions.split(",")),
        shapes=shapes,
        batches=batches,
        baseline="hf-eager" if "hf-eager" in words["peers"] else None,
        peers=words["peers"],
        reference=str(checkpoint_folder(given.folder)),
        device="cuda",
        rounds=RoundOptions(seconds=given.seconds),
        max_workers=24,
        pythons=pythons,
    )


if __name__ == "__main__":
    sys.exit(main())
