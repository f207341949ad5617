"""What `cpu_figures` measures in processes of their own, beside the rows in turns."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glpn_deploy.benchmarks.measuring.load import closed_loop
from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.base import Mode, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime

_SIDE, _TRIAL_SIDE = 2048, 512
_PRODUCTS = 10
_SECONDS = 2.0  # shorter ones were seen to meet with nothing but a neighbour's busy time
_SLOW_GFLOPS = 5.0  # a product below is computed number by number
_TAIL = 300  # characters of a failed command's last words


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a fresh process, which holds nothing of this one's memory and threads.

    Raises:
        BackendError: The process was ended from outside.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise BackendError(
                f"the process that measured {function.__name__} was ended",
                fix="see whether memory ran out, and measure this part again with --only",
            ) from None


def product_rate(precision: Literal["bf16", "int8"], threads: int | None) -> float:
    """Matrix product by torch [10^9 operations/s], the best of a few; INT8 products are summed in INT32.

    Of 2048 x 2048 where the first, of 512 x 512, says that the processor can: where it cannot, torch computes
    a hundred times more slowly than in FP32.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)

    def best(side: int, seconds: float = 0.0) -> float:
        if precision == "bf16":
            left, right = (torch.rand(side, side).to(torch.bfloat16) for _ in range(2))
        else:
            left, right = (torch.randint(-64, 64, (side, side), dtype=torch.int8) for _ in range(2))
        times: list[float] = []
        while len(times) < _PRODUCTS or sum(times) < seconds:
            begin = time.perf_counter()
            left @ right if precision == "bf16" else torch._int_mm(left, right)
            times.append(time.perf_counter() - begin)
        return 2 * side**3 / min(times) / 1e9

    trial = best(_TRIAL_SIDE)
    return max(trial, best(_SIDE, _SECONDS)) if trial > _SLOW_GFLOPS else trial


def streams(
    backend: str, path: Path, shape: Sequence[int], threads: int | None, callers: int, seconds: float
) -> dict[str, float]:
    """Throughput of one caller with all threads, and of several side by side [images/s].

    OpenVINO splits its threads among the callers in its throughput mode; ONNX Runtime gets each caller's
    share as its number of threads.

    Args:
        backend: ``openvino`` or ``onnxruntime``.
        path: The ``.onnx`` file.
        shape: ``(N, 3, H, W)``.
        threads: In all; None for all cores.
        callers: Streams.
        seconds: For how long each is measured [s].

    Returns:
        ``one``, ``side_by_side`` and their ratio ``gain``.
    """
    x = np.random.default_rng(0).random(tuple(shape), np.float32)
    found = {}
    for name, count in (("one", 1), ("side_by_side", callers)):
        mode: Mode = "throughput" if count > 1 and backend == "openvino" else "latency"
        own = threads
        if count > 1 and backend == "onnxruntime":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            own = max(1, (threads or cores) // count)
        with load_runtime(backend, path, RuntimeOptions("cpu", "fp32", own, mode)) as runtime:
            closed_loop(lambda turn, run=runtime.run: run(x), count, 0.0)  # type: ignore[misc]  # compiles
            loop = closed_loop(lambda turn, run=runtime.run: run(x), count, seconds)  # type: ignore[misc]
        found[name] = loop["runs_per_s"] * shape[0]
    return {**found, "gain": found["side_by_side"] / found["one"]}


def bare_rate(backend: str, path: Path, shape: Sequence[int], threads: int | None, seconds: float) -> float:
    """Runs a second of a loaded network, by one caller."""
    x = np.random.default_rng(0).random(tuple(shape), np.float32)
    with load_runtime(backend, path, RuntimeOptions("cpu", "fp32", threads)) as runtime:
        runtime.run(x)
        return float(closed_loop(lambda turn: runtime.run(x), 1, seconds)["runs_per_s"])


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


def predict(
    source: Path,
    images: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    emulator: Sequence[str] = (),
) -> Predicted:
    """Runs ``glpn-predict`` as a user does; it saves depth as 16-bit PNG.

    Args:
        source: What it loads.
        images: A file or a folder.
        options: More options of the command.
        environment: Variables on top of this process's.
        emulator: Another processor's emulator and its options, which then runs the command.

    Raises:
        BackendError: The command failed.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(*emulator, sys.executable, "-m", "glpn_deploy.cli.predict", str(source), str(images)),
            *("--out", out, "--save", "mm", "--device", "cpu", "--json", *options),
        ]
        began, begin = time.time(), time.perf_counter()  # files have the former's time
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise BackendError(
                f"glpn-predict ended with status {done.returncode}: {done.stderr.strip()[-_TAIL:]}"
            )
        first = min(path.stat().st_mtime for path in Path(out).iterdir())
    return Predicted(seconds, first - began, json.loads(done.stdout))


def warm_start(source: Path, image: Path, repeats: int, *options: str) -> dict[str, float]:
    """Seconds from the command's start to its first depth map on disk, with an empty cache and a warm one."""
    with tempfile.TemporaryDirectory() as cache:
        cold = predict(source, image, "--cache", cache, *options).first_s
        warm = [predict(source, image, "--cache", cache, *options).first_s for _ in range(repeats)]
    return {"cold_s": cold, "warm_s": statistics.median(warm)}


def end_to_end(
    source: Path, photographs: Path, one: Path, count: int, bare: Callable[[], float], *options: str
) -> dict[str, float]:
    """``glpn-predict`` on many photographs against the bare network, which is measured before and after.

    Args:
        source: What it loads.
        photographs: A folder of ``count`` files.
        one: One photograph, for what starting takes.
        count: Photographs in the folder.
        bare: Measures one bare run [s].
        options: More options of the command.

    Returns:
        ``bare_s`` and ``all_s`` a photograph, ``over_bare`` with the command's start and
        ``over_bare_running`` without it: 0.1 is 10 % more than bare.
    """
    before = bare()
    start = predict(source, one, *options).seconds
    whole = predict(source, photographs, *options).seconds
    unit = statistics.mean((before, bare()))
    return {
        "bare_s": unit,
        "all_s": whole / count,
        "over_bare": whole / count / unit - 1,
        "over_bare_running": (whole - start) / max(1, count - 1) / unit - 1,
    }
