"""Load tests of the cases: concurrent callers, arrivals at a rate, and a soak for memory and drift."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.benchmarks.measuring.latency_stats import drift
from glpn_deploy.benchmarks.measuring.worker_process import START_LIMIT_S, WorkerProcess
from glpn_deploy.benchmarks.workload.cases import Case, NotRun, load_limit_s
from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.timing.order_statistics import FEWEST

_SOAK_WINDOWS = 20
_MOST_ARRIVALS = 1_000_000
_GROWTH = 0.02
"""Growth of memory over the second half of a soak, as a share of it, from where on it is worth a warning."""


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """What is measured under load.

    Attributes:
        callers: Numbers of concurrent callers; empty leaves them out.
        rates: Arrivals a second; empty leaves them out.
        servers: Threads that serve arrivals.
        seconds: For how long each [s].
        soak_s: Length of the soak [s]; 0 leaves it out.
        seed: Of the arrivals.

    Raises:
        InputError: A value is out of range, or more would arrive than can be timed.
    """

    callers: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    servers: int = 4
    seconds: float = 5.0
    soak_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (*self.callers, *self.rates, self.servers, self.seconds)
        if not all(0 < number < math.inf for number in numbers) or not 0 <= self.soak_s < math.inf:
            raise InputError(
                f"callers {self.callers}, rates {self.rates}, {self.servers} servers, {self.seconds} s, "
                f"a soak of {self.soak_s} s",
                expected="finite numbers above 0",
            )
        if max(self.rates, default=0.0) * self.seconds > _MOST_ARRIVALS:
            raise InputError(
                f"{max(self.rates):g} arrivals a second for {self.seconds:g} s",
                expected=f"at most {_MOST_ARRIVALS} arrivals",
            )

    @property
    def wanted(self) -> bool:
        """Whether anything is to be measured."""
        return bool(self.callers or self.rates or self.soak_s)


def measure_load(
    cases: Sequence[Case],
    options: LoadOptions,
    not_run: list[NotRun],
    start: Callable[[Case], WorkerProcess] = lambda case: WorkerProcess(),
) -> Iterator[dict[str, Any]]:
    """Puts each case, one after the other in a fresh process, under load.

    Args:
        cases: What is to be loaded; the threads of one process share one loaded network.
        options: What to measure.
        not_run: Gets what failed.
        start: Starts a case's process.

    Yields:
        For each case, as it is done, ``key``, ``callers``, ``arrivals`` and ``soak``.
    """
    for case in cases:
        found: dict[str, Any] = {"key": case.key, "callers": [], "arrivals": [], "soak": None}
        with progress.step(f"load {case.runner}") as step:
            try:
                with start(case) as worker:
                    worker.ask("load", load_limit_s(case), case=case.to_dict())
                    worker.ask("run", runs=3, warm_up=0, turn=0)
                    _callers(worker, case, options, found)
                    _arrivals(worker, case, options, found)
                    if options.soak_s:
                        found["soak"] = soak(worker, case.batch, options.soak_s)
            except BackendError as error:
                not_run.append(NotRun(f"{case.key}, under load", str(error)))
            step.finish(_summary(found))
        yield found


def _callers(worker: WorkerProcess, case: Case, options: LoadOptions, found: dict[str, Any]) -> None:
    for callers in options.callers:
        limit = START_LIMIT_S + options.seconds
        reply = worker.ask("callers", limit, callers=callers, seconds=options.seconds)
        rate = {"images_per_s": reply.pop("runs_per_s") * case.batch}
        found["callers"].append({**reply, **rate, **percentiles(reply["samples_ms"])})


def _arrivals(worker: WorkerProcess, case: Case, options: LoadOptions, found: dict[str, Any]) -> None:
    for rate in options.rates:
        limit = START_LIMIT_S + 2 * options.seconds
        reply = worker.ask(
            "arrivals", limit, rate=rate, callers=options.servers, seconds=options.seconds, seed=options.seed
        )
        behind = (
            reply["unserved"]
            or reply["backlog_s"] > 0.1 * options.seconds + max(reply["samples_ms"][:1]) / 1e3
        )
        found["arrivals"].append({**reply, "kept_up": not behind, **percentiles(reply["samples_ms"])})


def soak(worker: WorkerProcess, batch: int, seconds: float) -> dict[str, Any]:
    """Runs for a while and looks, window by window, at memory and at the median latency.

    Returns:
        By window ``memory_mib`` and ``median_ms``; ``runs``; ``growth_mib`` over the second half with
        ``leak_suspected``; ``drift`` (share, p) of the medians with ``drifted``.
    """
    first = worker.ask("run", runs=3, warm_up=1, turn=0)
    runs = max(1, round(seconds / _SOAK_WINDOWS / (float(np.median(first["samples_ms"])) / 1e3)))
    memory: list[float | None] = []
    medians: list[float] = []
    total, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        reply = worker.ask("run", START_LIMIT_S + seconds, runs=runs, warm_up=0, turn=total)
        memory.append(reply["now_mib"])
        medians.append(float(np.median(reply["samples_ms"])))
        total += runs
    trend = drift(medians)
    return {
        "runs": total,
        "images_per_s": total * batch / (time.perf_counter() - begin),
        "memory_mib": memory,
        "median_ms": medians,
        **memory_growth([value for value in memory if value is not None]),
        "drift": dataclasses.asdict(trend),
        "drifted": abs(trend.share) > 0.05 and trend.p < 0.01,
    }


def memory_growth(memory: Sequence[float]) -> dict[str, Any]:
    """Whether memory still grows in the second half, after pools and caches have filled.

    Args:
        memory: Resident memory, window by window [MiB].

    Returns:
        ``growth_mib`` by the Theil-Sen slope and ``leak_suspected``; None and False of too few windows.
    """
    half = list(memory[len(memory) // 2 :])
    if len(half) < FEWEST:
        return {"growth_mib": None, "leak_suspected": False}
    trend = drift(half)
    return {
        "growth_mib": trend.share * float(np.median(half)),
        "leak_suspected": trend.share > _GROWTH and trend.p < 0.01,
    }


def memory_words(found: dict[str, Any]) -> str:
    """`memory_growth`'s finding: ``memory grows (+3.1 MiB)``."""
    if found["growth_mib"] is None:
        return "memory not judged"
    return f"memory {'grows' if found['leak_suspected'] else 'steady'} ({found['growth_mib']:+.1f} MiB)"


def percentiles(samples_ms: Sequence[float]) -> dict[str, float]:
    """``median_ms`` and ``p90_ms``, ``p95_ms``, ``p99_ms`` where there are enough samples to tell them."""
    found = {"median_ms": float(np.median(samples_ms))}
    for q in (90, 95, 99):
        if len(samples_ms) * (100 - q) >= 100:
            found[f"p{q}_ms"] = float(np.percentile(samples_ms, q))
    return found


def _summary(found: dict[str, Any]) -> str:
    parts = [f"{one['callers']} callers {one['images_per_s']:.1f} images/s" for one in found["callers"]]
    parts += [
        f"{one['rate']:g}/s median {one['median_ms']:.0f} ms{'' if one['kept_up'] else ', fell behind'}"
        for one in found["arrivals"]
    ]
    if found["soak"]:
        parts.append(memory_words(found["soak"]))
    return ", ".join(parts)
