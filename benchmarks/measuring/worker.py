"""The fresh process of one case: loads it, then answers requests with raw samples.

    python -m glpn_deploy.benchmarks.measuring.worker

One JSON object a line comes in on standard input and one goes out for it: ``{"ok": ...}`` or
``{"error": sentence}``. What libraries print goes to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from glpn_deploy.errors import GlpnError, UnavailableError


class Worker:
    """Answers the requests of `glpn_deploy.benchmarks.measuring.worker_process.WorkerProcess`."""

    def __init__(self) -> None:
        self._workload: Any = None

    def answer(self, request: dict[str, Any]) -> Any:
        """Does what is asked; raises what goes wrong."""
        command = request.pop("do")
        actions: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "run": self._run,
            "overhead": self._overhead,
            "stages": lambda turn: self._workload.stages(turn),
            "outputs": self._outputs,
            "operators": lambda: self._workload.operators(),
            "about": lambda: self._workload.runtime.describe(),
            "half_product": lambda: self._workload.half_rate(),
            "evaluate": self._evaluate,
            "callers": self._callers,
        }
        return actions[command](**request)

    def _load(self, case: dict[str, Any]) -> dict[str, Any]:
        from glpn_deploy.benchmarks.workload.cases import Case
        from glpn_deploy.benchmarks.workload.workloads import describe, load_workload
        from glpn_deploy.decoding import decode

        self._workload = load_workload(decode(Case, case))
        return {**describe(self._workload), "peak_mib": peak_memory_mib()}

    def _run(self, runs: int, warm_up: int, turn: int) -> dict[str, Any]:
        cpu, begin = time.process_time(), time.perf_counter()
        warm = time_calls(self._workload.call, warm_up, turn)
        samples = time_calls(self._workload.call, runs, turn)
        return {
            "warm_up_ms": warm,
            "samples_ms": samples,
            "wall_s": time.perf_counter() - begin,
            "cpu_s": time.process_time() - cpu,
            "peak_mib": peak_memory_mib(),
        }

    def _overhead(self, runs: int) -> list[float]:
        """What the timing loop reads for a call that does nothing [ms]."""
        return time_calls(lambda turn: None, runs, 0)

    def _outputs(self, path: str) -> None:
        import numpy as np

        np.save(path, self._workload.outputs())

    def _evaluate(self, **choice: Any) -> dict[str, Any]:
        from glpn_deploy.accuracy.evaluation import evaluate
        from glpn_deploy.datasets.options import GroundTruthOptions
        from glpn_deploy.datasets.registry import open_ground_truth
        from glpn_deploy.estimator import DepthEstimator

        network = self._workload
        estimator = DepthEstimator(network.runtime, network.processor, network.case.max_depth)
        data = open_ground_truth(GroundTruthOptions(**choice))
        assert data is not None
        report = evaluate(estimator, data)
        return {**report.metrics, "images": report.result["images"], "dataset": report.dataset["name"]}

    def _callers(self, callers: int, seconds: float) -> dict[str, Any]:
        from glpn_deploy.benchmarks.measuring.load import closed_loop

        return closed_loop(self._workload.call, callers, seconds)


def time_calls(call: Callable[[int], object], runs: int, turn: int) -> list[float]:
    """Milliseconds of each of ``runs`` calls; the garbage collector waits until they are over."""
    clock = time.perf_counter_ns
    samples = [0.0] * runs
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(runs):
            start = clock()
            call(
                turn + number
            )  # a runtime gives arrays on the host, so the device has finished when it returns
            samples[number] = (clock() - start) / 1e6
    finally:
        if collects:
            gc.enable()
    return samples


def peak_memory_mib() -> float | None:
    """Most resident memory of this process so far [MiB].

    From /proc where there is one: ``getrusage`` starts from what the parent had, and is the fallback.
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        match = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
        if match is not None:
            return int(match[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def serve(requests: TextIO, replies: TextIO, worker: Worker) -> None:
    """Answers until the other end closes."""
    replies.write(json.dumps({"ok": {"pid": os.getpid()}}) + "\n")
    replies.flush()
    for line in requests:
        reply: dict[str, Any]
        try:
            reply = {"ok": worker.answer(json.loads(line))}
        except GlpnError as error:
            reply = {"error": str(error), "unavailable": isinstance(error, UnavailableError)}
        except MemoryError:
            reply = {"error": "the machine ran out of memory"}
        except Exception as error:  # a backend's own error ends its case, not the sweep
            reply = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main(worker: Worker | None = None) -> None:
    """Keeps the pipe for replies and sends what libraries print to standard error.

    Args:
        worker: What answers; None takes a `Worker`.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies, worker or Worker())


if __name__ == "__main__":
    main()
