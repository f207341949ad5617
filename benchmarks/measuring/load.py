"""Several threads that call one loaded network, each again as soon as it has its answer."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.benchmarks.measuring.worker_process import START_LIMIT_S, WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.workload.cases import Case, NotRun, load_limit_s
from glpn_deploy.errors import BackendError


def closed_loop(call: Callable[[int], object], callers: int, seconds: float) -> dict[str, Any]:
    """Calls from several threads for a while.

    Args:
        call: One run; the argument is its turn.
        callers: Threads.
        seconds: For how long new runs start [s]; each thread makes at least one.

    Returns:
        ``callers``, ``runs``, ``elapsed_s`` until the last answer, ``runs_per_s``, ``cpu_ms`` that a run
        takes of the processors in this process, and ``samples_ms``.

    Raises:
        Exception: What a call raised.
    """
    begin: list[float] = []
    ready = threading.Barrier(callers, action=lambda: begin.append(time.perf_counter()))

    def work(number: int) -> list[float]:
        ready.wait()
        own: list[float] = []
        for turn in itertools.count(number, callers):
            start = time.perf_counter()
            if own and start >= begin[0] + seconds:
                break
            call(turn)
            own.append((time.perf_counter() - start) * 1e3)
        return own

    cpu_s = time.process_time()
    with ThreadPoolExecutor(callers) as pool:
        samples = [value for own in pool.map(work, range(callers)) for value in own]
    elapsed = time.perf_counter() - begin[0]
    return {
        "callers": callers,
        "runs": len(samples),
        "elapsed_s": elapsed,
        "runs_per_s": len(samples) / elapsed,
        "cpu_ms": (time.process_time() - cpu_s) * 1e3 / len(samples),
        "samples_ms": samples,
    }


def measure_callers(
    cases: Sequence[Case],
    options: BenchOptions,
    not_run: list[NotRun],
    start: Callable[[Case], WorkerProcess],
) -> Iterator[dict[str, Any]]:
    """Lets several threads call each case, one case after the other in a fresh process.

    Args:
        cases: What is called.
        options: ``callers`` and ``load_seconds``.
        not_run: Gets what failed.
        start: Starts a case's process.

    Yields:
        For each case, as it is done, ``key`` and ``callers``: `closed_loop`'s figures by number of callers,
        with ``images_per_s`` and `percentiles`.
    """
    for case in cases:
        found: list[dict[str, Any]] = []
        with progress.step(f"load {case.id.runner}") as step:
            try:
                with start(case) as process:
                    process.ask("load", load_limit_s(case), case=dataclasses.asdict(case))
                    process.ask("run", runs=3, warm_up=0, turn=0)
                    for callers in options.callers:
                        limit = START_LIMIT_S + options.load_seconds
                        reply = process.ask("callers", limit, callers=callers, seconds=options.load_seconds)
                        rate = {"images_per_s": reply.pop("runs_per_s") * case.batch}
                        found.append({**reply, **rate, **percentiles(reply["samples_ms"])})
            except BackendError as error:
                not_run.append(NotRun(case.id, str(error), "load"))
            step.finish(", ".join(f"{one['callers']} callers {one['images_per_s']:.1f}/s" for one in found))
        yield {"key": str(case.id), "callers": found}


def percentiles(samples_ms: Sequence[float]) -> dict[str, float]:
    """``median_ms`` and ``p90_ms``, ``p95_ms``, ``p99_ms`` where there are enough samples to tell them."""
    found = {"median_ms": float(np.median(samples_ms))}
    for q in (90, 95, 99):
        if len(samples_ms) * (100 - q) >= 100:
            found[f"p{q}_ms"] = float(np.percentile(samples_ms, q))
    return found
