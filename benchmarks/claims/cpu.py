"""The figures of a CPU: this package beside Optimum and transformers in turns, and whole commands.

glpn-nyu's architecture with random weights stands in for the checkpoint: they change no time and no memory.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.main_job import photographs
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions, RoundOptions
from glpn_deploy.benchmarks.report.results import Report, rounded
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import Case
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.errors import BackendError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.options import RunPrecision

HEIGHT, WIDTH = 480, 640
ROOM_HEIGHT, ROOM_WIDTH = 240, 320
BACKENDS = ("torch", "onnxruntime", "openvino")
PRECISIONS: tuple[RunPrecision, ...] = ("fp32", "bf16", "int8", "int8+bf16")
WHATEVER_IT_COSTS = ("--max-abs-rel", "1e9", "--max-abs-m", "1e9", "--no-verify", "--no-verdict")
"""INT8 with nothing raised: random weights have no depth to keep."""
PHOTOGRAPHS, STARTS, BARE_S = 100, 7, 20.0


ROWS = BenchOptions(precisions=PRECISIONS, device="cpu", max_workers=16, stages=False, allow_fallback=True)
"""All rows at the same time, so that all meet in every round."""


def measure(options: FigureOptions) -> dict[str, Any]:
    """Every figure, one after the other."""
    folder = options.folder
    photos = export_networks(folder)
    bundle, first = folder / "nyu-bundle", photos / "0.png"
    asked = dataclasses.replace(
        ROWS,
        backends=BACKENDS,
        baseline="optimum",
        peers=("optimum", "hf-eager"),
        pythons={} if options.optimum is None else {"optimum": options.optimum},
        rounds=RoundOptions(half_width=0.01, seconds=30.0),
    )
    report = sweep_nyu(folder, photos, asked)
    return {
        "rows": rows(report),
        "not_run": {item.name: item.reason for item in report.not_run},
        "ceilings": report.ceilings,
        "abs_rel": abs_rel(folder, dataclasses.replace(ROWS, backends=BACKENDS[1:])),
        "start": {precision: warm_start(bundle, first, precision) for precision in ("fp32", "bf16")},
        "predict": predict_overhead(bundle, first, folder / "many"),
    }


def export_networks(folder: Path) -> Path:
    """``nyu-bundle`` and ``demo-bundle`` with INT8 for CPUs in a folder, and ``nyu``, which is a checkpoint.

    Returns:
        The folder of the photographs that glpn-nyu's ranges were found on.
    """
    photos = save_pictures([fit(image) for image in photographs()], folder / "photographs")
    with progress.step("export"):
        random_model(NYU, 0).save_pretrained(folder / "nyu")
        int8 = ("--int8", "--target", "cpu", *WHATEVER_IT_COSTS)
        run_command("export", folder / "nyu", folder / "nyu-bundle", *int8, "--calibration", photos)
        run_command("export", "demo", folder / "demo-bundle", *int8)
    return photos


def sweep_nyu(folder: Path, photos: Path, options: BenchOptions) -> Report:
    """The rows of glpn-nyu's architecture on photographs."""
    shapes = ((HEIGHT, WIDTH),)
    asked = dataclasses.replace(options, reference=str(folder / "nyu"), images=photos, shapes=shapes)
    return run_sweep(folder / "nyu-bundle", asked)


def abs_rel(folder: Path, options: BenchOptions) -> dict[str, float]:
    """AbsRel of the demo network against PyTorch in FP32 on rendered rooms, by backend and precision."""
    rooms = RenderedRooms("val", 8, height=ROOM_HEIGHT, width=ROOM_WIDTH)
    asked = dataclasses.replace(
        options,
        reference="demo",
        images=save_pictures([sample.image for sample in rooms], folder / "rooms"),
        shapes=((ROOM_HEIGHT, ROOM_WIDTH),),
        rounds=RoundOptions(half_width=0.5, seconds=1.0),
    )
    report = run_sweep(folder / "demo-bundle", asked)
    return {str(row.id.runner): row.error["abs_rel"] for row in report.rows if row.error}


def rows(report: Report) -> dict[str, Any]:
    """By backend and precision: median, rounds, times as fast as the baseline, and peak memory."""
    found = {
        str(row.id.runner): {
            "median_ms": row.latency.median_ms,
            "rounds": row.latency.rounds,
            "speedup": None if row.speedup is None else dataclasses.asdict(row.speedup),
            "peak_memory_mib": row.peak_memory_mib,
            "product_share": row.product_share,
        }
        for row in report.rows
    }
    return dict(rounded(found))


def fit(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A photograph's middle at the size that is measured."""
    return np.asarray(ImageOps.fit(Image.fromarray(image), (WIDTH, HEIGHT)))


def save_pictures(pictures: list[Any], folder: Path) -> Path:
    """Writes them as ``0.png`` and so on, and returns the folder."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@dataclasses.dataclass(frozen=True)
class Predicted:
    """One ``glpn-predict``.

    Attributes:
        seconds: From the command's start to its end [s].
        first_s: From the command's start to the first depth map on disk [s].
        told: What its ``--json`` says.
    """

    seconds: float
    first_s: float
    told: dict[str, Any]


def predict(source: Path, images: Path, *arguments: str) -> Predicted:
    """Runs ``glpn-predict`` as a user does; it saves depth as 16-bit PNG.

    Args:
        source: What it loads.
        images: A file or a folder.
        arguments: More options of the command.

    Raises:
        BackendError: The command failed.
    """
    with tempfile.TemporaryDirectory() as out:
        began, begin = time.time(), time.perf_counter()  # files have the former's time
        how = ("--out", out, "--save", "mm", "--device", "cpu", "--json")
        told = json.loads(run_command("predict", source, images, *how, *arguments))
        seconds = time.perf_counter() - begin
        first = min(path.stat().st_mtime for path in Path(out).iterdir())
    return Predicted(seconds, first - began, told)


def warm_start(bundle: Path, image: Path, precision: str) -> dict[str, float] | None:
    """Seconds from the command's start to its first depth map on disk, in OpenVINO.

    Returns:
        ``cold_s`` with an empty cache, ``warm_s`` with a warm one, or None where OpenVINO does not give it.
    """
    with tempfile.TemporaryDirectory() as cache, progress.step(f"warm start, {precision}") as step:
        arguments = ("--backend", "openvino", "--precision", precision, "--cache", cache)
        try:
            cold = predict(bundle, image, *arguments).first_s
        except BackendError as error:
            step.finish(str(error))
            return None
        warm = [predict(bundle, image, *arguments).first_s for _ in range(STARTS)]
    return {"cold_s": cold, "warm_s": statistics.median(warm)}


def predict_overhead(bundle: Path, photo: Path, many: Path) -> dict[str, Any]:
    """``glpn-predict`` on many photographs beside the bare network, which is measured before and after.

    Returns:
        `overhead`'s shares, with ``backend``, ``bare_s`` and ``all_s`` for each photograph.
    """
    with progress.step("glpn-predict on many"):
        picture = np.asarray(Image.open(photo))
        many.mkdir()
        for number in range(PHOTOGRAPHS):
            Image.fromarray(np.roll(picture, number, axis=1)).save(many / f"{number:03d}.jpg", quality=92)
        one = predict(bundle, photo)
        backend = str(one.told["runtime"]["backend"])
        before = bare_s(backend, bundle / "model.onnx", photo)
        every = predict(bundle, many)
        bare = statistics.mean((before, bare_s(backend, bundle / "model.onnx", photo)))
    return {
        "backend": backend,
        "bare_s": bare,
        "all_s": every.seconds / PHOTOGRAPHS,
        **overhead(one.seconds, every.seconds, PHOTOGRAPHS, bare),
    }


def overhead(one_s: float, many_s: float, count: int, bare_s: float) -> dict[str, float]:
    """What a command takes beyond the bare network, as shares: 0.1 is 10 % more.

    Args:
        one_s: The command on one photograph [s].
        many_s: The command on ``count`` photographs [s].
        count: Photographs, at least two.
        bare_s: One bare run [s].

    Returns:
        ``over_bare`` with the command's start, and ``over_bare_running`` without it.
    """
    return {
        "over_bare": many_s / count / bare_s - 1,
        "over_bare_running": (many_s - one_s) / (count - 1) / bare_s - 1,
    }


def bare_s(backend: str, path: Path, photo: Path) -> float:
    """One run of the loaded network in FP32 [s], the mean over a while, in a process of its own."""
    case = Case(
        backend=backend,
        precision="fp32",
        batch=1,
        height=HEIGHT,
        width=WIDTH,
        path=str(path),
        device="cpu",
        images=(str(photo),),
        processor=GLPNImageProcessor().to_dict(),
    )
    with WorkerProcess() as process:
        process.ask("load", case=dataclasses.asdict(case))
        return 1 / float(process.ask("callers", callers=1, seconds=BARE_S)["runs_per_s"])
