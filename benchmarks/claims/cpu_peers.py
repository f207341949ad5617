"""A CPU's figures beside the peers that people would really take, precision by precision, in turns.

Optimum's export in ONNX Runtime and in OpenVINO, and the same quantized by NNCF, onnxruntime.quantization and
nvidia-modelopt, beside this package's files. Ranges of ours and theirs are found on the same photographs, and
how far the demo network's depth moves is measured on the rooms that theirs were found on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.cpu import (
    HEIGHT,
    ROOM_HEIGHT,
    ROOM_WIDTH,
    WHATEVER_IT_COSTS,
    WIDTH,
    fit,
    save_pictures,
)
from glpn_deploy.benchmarks.claims.main_job import photographs
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.benchmarks.measuring.latency_stats import ratio_in_turns
from glpn_deploy.benchmarks.options import BenchOptions, RoundOptions
from glpn_deploy.benchmarks.report.results import Report, Row, rounded
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.runtimes.base import Precision

BACKENDS = ("onnxruntime", "openvino")
PEERS = ("optimum", "openvino-optimum", "nncf", "ort-static", "modelopt")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
RIVALS: Mapping[str, Sequence[str]] = {
    "openvino fp32": ("openvino-optimum fp32",),
    "openvino bf16": ("openvino-optimum bf16",),
    "openvino int8": ("nncf int8",),
    "openvino int8+bf16": ("nncf int8+bf16",),
    "onnxruntime fp32": ("optimum fp32",),
    "onnxruntime int8": ("ort-static int8", "modelopt int8"),
}
"""Each of our rows, and the peers' that do the same; the fastest of them is what ours is compared with."""
ROUNDS = RoundOptions(half_width=0.02, seconds=12.0)


def measure(options: FigureOptions) -> dict[str, Any]:
    """Both networks with their INT8 files, then the rows."""
    folder = options.folder
    photos = save_pictures([fit(image) for image in photographs()], folder / "photographs")
    with progress.step("export"):
        random_model(NYU, 0).save_pretrained(folder / "nyu")
        int8 = ("--int8", "--target", "cpu", *WHATEVER_IT_COSTS)
        run_command("export", folder / "nyu", folder / "nyu-bundle", *int8, "--calibration", str(photos))
        run_command("export", "demo", folder / "demo-bundle", *int8)
    return figures(folder, photos, PEERS, options.optimum)


def figures(folder: Path, photos: Path, peers: Sequence[str], python: str | None) -> dict[str, Any]:
    """The rows, and how far INT8 moves the demo network's depth.

    Args:
        folder: Holds ``nyu``, ``nyu-bundle`` and ``demo-bundle``.
        photos: What `nyu` is run on.
        peers: As in `BenchOptions`.
        python: One that has the peers' packages; None for this one.
    """
    report = run_sweep(
        folder / "nyu-bundle",
        rows_options(peers, python, reference=str(folder / "nyu"), images=photos, shapes=((HEIGHT, WIDTH),)),
    )
    rooms = RenderedRooms("val", 8, height=ROOM_HEIGHT, width=ROOM_WIDTH)
    judged = dataclasses.replace(
        rows_options(
            PEERS,
            python,
            reference="demo",
            images=save_pictures([sample.image for sample in rooms], folder / "rooms"),
            shapes=((ROOM_HEIGHT, ROOM_WIDTH),),
        ),
        rounds=RoundOptions(half_width=0.5, seconds=1.0),
    )
    accuracy = run_sweep(folder / "demo-bundle", judged)
    return {
        **beside(report),
        "abs_rel": {str(row.id.runner): row.error["abs_rel"] for row in accuracy.rows if row.error},
    }


def rows_options(peers: Sequence[str], python: str | None, **how: Any) -> BenchOptions:
    """All rows at the same time, so that all meet in every round."""
    return BenchOptions(
        backends=BACKENDS,
        precisions=PRECISIONS,
        baseline="openvino-optimum:fp32",
        peers=tuple(peers),
        device="cpu",
        rounds=ROUNDS,
        max_workers=16,
        stages=False,
        pythons={} if python is None else dict.fromkeys(("optimum", "nncf"), python),
        **how,
    )


def beside(report: Report) -> dict[str, Any]:
    """Every row's median [ms], and each of ours as times as fast as its peer, with the interval."""
    rows = {str(row.id.runner): row for row in report.rows}
    medians = {
        name: {
            "median_ms": row.latency.median_ms,
            "rounds": row.latency.rounds,
            "product_share": row.product_share,
        }
        for name, row in rows.items()
    }
    compared = {}
    for ours, rivals in RIVALS.items():
        ran = [name for name in rivals if name in rows]
        if ours in rows and ran:
            rival = min(ran, key=lambda name: rows[name].latency.median_ms)
            compared[ours] = {"peer": rival, **_times_as_fast(rows[ours], rows[rival])}
    not_run = {item.name: item.reason for item in report.not_run}
    return {"rows": rounded(medians), "times_as_fast": rounded(compared), "not_run": not_run}


def _times_as_fast(ours: Row, theirs: Row) -> dict[str, Any]:
    ratio = ratio_in_turns(theirs.samples, ours.samples)
    return {} if ratio is None else dataclasses.asdict(ratio)
