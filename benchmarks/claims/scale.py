"""What a machine gives: modes of one process beside several, and what Ray costs an image.

One process with all threads for a run, one in mode throughput, and as many processes of one thread in mode
worker, in turns; then glpn-batch with a network that takes no time, and beside as many plain processes. There
each way does N images and 3 N, turn and turn about; an image's cost is the difference over the 2 N, so that
starting (Ray's, processes', networks') does not count, and stands beside it.

Wall time and the processors' time of all processes; the latter also on a machine that others use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import skimage.data
from PIL import Image

from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.claims.cpu import WHATEVER_IT_COSTS
from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.workload.cases import Case
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.options import LoadOptions, Mode, RunPrecision
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.scale.batch import run_batch
from glpn_deploy.scale.options import BatchOptions

ROUNDS, TURN_S, WORKERS = 3, 4.0, 2
IMAGES_A_JOB, NULL_IMAGES = 150, 20_000
SIZE = (320, 240)  # px, width x height, at which the network sees them too
IMAGES = ImageOptions(input_size=(SIZE[1], SIZE[0]))


def null() -> DepthEstimator:
    """An estimator whose network takes no time."""
    return DepthEstimator(NullRuntime(), GLPNImageProcessor(), 10.0)


def modes(folder: Path, seconds: float, workers: int) -> dict[str, Any]:
    """Every turn of the demo network at 480x640, by backend and precision, then by mode: see `in_turns`.

    Args:
        folder: For the bundle and an image.
        seconds: Of a turn.
        workers: Threads that a process has, or processes that have one.
    """
    bundle, (image,) = folder / "modes-bundle", photographs(folder / "mode", 1, (640, 480))
    run_command("export", "demo", bundle, "--int8", "--target", "cpu", *WHATEVER_IT_COSTS)
    cases: list[tuple[str, RunPrecision, str]] = [
        ("openvino", "fp32", "model.onnx"),
        ("openvino", "bf16", "model.onnx"),
        ("openvino", "int8", "model.int8.onnx"),
        ("openvino", "int8+bf16", "model.int8.onnx"),
        ("onnxruntime", "fp32", "model.onnx"),
    ]
    found: dict[str, Any] = {}
    for backend, precision, file in cases:
        case = Case(
            backend=backend,
            precision=precision,
            batch=1,
            height=480,
            width=640,
            path=str(bundle / file),
            device="cpu",
            images=(str(image),),
        )
        found[str(case.id.runner)] = in_turns(case, seconds, workers)
    return found


def in_turns(case: Case, seconds: float, workers: int) -> dict[Mode, list[dict[str, float]]]:
    """One case in every mode: ``images_per_s`` and ``cpu_ms`` an image, of each turn."""
    ways: dict[Mode, tuple[int, int, int]] = {  # processes, threads of each, callers of each
        "latency": (1, workers, 1),
        "throughput": (1, workers, workers),
        "worker": (workers, 1, 1),
    }
    turns: dict[Mode, list[dict[str, float]]] = {mode: [] for mode in ways}
    with contextlib.ExitStack() as stack:
        loaded: dict[Mode, list[WorkerProcess]] = {}
        for mode, (count, threads, _) in ways.items():
            loaded[mode] = [stack.enter_context(WorkerProcess()) for _ in range(count)]
            asked = dataclasses.asdict(dataclasses.replace(case, mode=mode, threads=threads))
            for process in loaded[mode]:
                process.ask("load", case=asked)
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        for _ in range(ROUNDS):
            for mode, (_, _, callers) in ways.items():
                ask = partial(WorkerProcess.ask, do="callers", callers=callers, seconds=seconds)
                replies = list(pool.map(ask, loaded[mode]))
                runs = sum(reply["runs"] for reply in replies)
                cpu_ms = sum(reply["cpu_ms"] * reply["runs"] for reply in replies) / runs
                rate = runs / max(reply["elapsed_s"] for reply in replies)
                turns[mode].append({"images_per_s": rate, "cpu_ms": cpu_ms})
    return turns


def photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """``count`` JPEG files of one photograph."""
    folder.mkdir()
    first = folder / "000000.jpg"
    Image.fromarray(skimage.data.coffee()).resize(size).save(first)
    others = [folder / f"{number:06d}.jpg" for number in range(1, count)]
    for other in others:
        os.link(first, other)
    return [first, *others]


def plain_worker(bundle: str, files: list[Path], out: Path) -> None:
    """What a person would write without Ray: a process with its share of the files."""
    with DepthEstimator.load(bundle, mode="worker", input_size=IMAGES.input_size) as estimator:
        for found in estimator.stream(files):
            with atomic_path(out / f"{found.item.name}.png") as temporary:
                temporary.write_bytes(found.depth_map.to_png())


def plain(bundle: str, folder: Path, out: Path, workers: int) -> None:
    """As many such processes as there are workers."""
    out.mkdir()
    files, spawn = sorted(folder.iterdir()), multiprocessing.get_context("spawn")
    shares = [files[start::workers] for start in range(workers)]
    processes = [spawn.Process(target=plain_worker, args=(bundle, share, out)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def costed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processors' time [s] of all processes below this one, sampled while they live."""
    used: dict[int, float] = {}
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                used[process.pid] = times.user + times.system

    thread = threading.Thread(target=sample)
    thread.start()
    own, start = time.process_time(), time.perf_counter()
    try:
        work()
    finally:
        wall = time.perf_counter() - start
        stop.set()
        thread.join()
    return wall, sum(used.values()) + time.process_time() - own


def beside_plain_processes(folder: Path, images: int, workers: int) -> dict[str, Any]:
    """The demo network through glpn-batch and through plain processes, by turns.

    A round is an image's wall time and processors' time [ms], and the same of a job's start and end [s].
    """
    bundle = folder / "bundle"
    run_command("export", "demo", bundle)
    sizes = {count: folder / f"photos{count}" for count in (images, 3 * images)}
    for count, photos in sizes.items():
        photographs(photos, count, SIZE)
    found: dict[str, list[tuple[float, ...]]] = {"ray": [], "plain": []}
    for turn in range(ROUNDS):
        for way in ("ray", "plain"):
            costs = []
            for count, photos in sizes.items():
                out = folder / f"{way}{turn}-{count}"
                options = BatchOptions(workers=workers, images_per_part=32)

                def work(way: str = way, photos: Path = photos, out: Path = out) -> None:
                    if way == "plain":
                        plain(str(bundle), photos, out, workers)
                    else:
                        run_batch(str(bundle), str(photos), str(out), options, LoadOptions(images=IMAGES))  # noqa: B023 - called at once

                costs.append(costed(work))
            few, many = costs
            each = [(many[i] - few[i]) / (2 * images) * 1e3 for i in (0, 1)]
            fixed = [few[i] - each[i] * images / 1e3 for i in (0, 1)]
            found[way].append((*each, *fixed))
    return {"images": [images, 3 * images], "size": SIZE, "workers": workers, "rounds": found}


def of_no_network(folder: Path, images: int, workers: int) -> dict[str, Any]:
    """What an image costs beside its network: read, decoded, enlarged, packed, written, and accounted for."""
    photos = folder / "null"
    photographs(photos, images, (32, 32))
    options = BatchOptions(workers=workers, into="parquet")
    reports: list[Any] = []
    _, cpu = costed(
        lambda: reports.append(run_batch("null", str(photos), str(folder / "out"), options, opener=null))
    )
    return {"images": images, "size": [32, 32], "seconds": reports[0].seconds, "cpu_seconds": cpu}


def measure(options: FigureOptions) -> dict[str, Any]:
    """All three, with a worker or a thread for each of two cores."""
    return {
        "modes": modes(options.folder, TURN_S, WORKERS),
        "null": of_no_network(options.folder, NULL_IMAGES, WORKERS),
        "demo": beside_plain_processes(options.folder, IMAGES_A_JOB, WORKERS),
    }
