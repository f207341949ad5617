"""One loaded network under load: callers that wait for each other's results, and arrivals that do not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def closed_loop(call: Callable[[int], object], callers: int, seconds: float) -> dict[str, Any]:
    """Threads that each call again as soon as they have an answer, all on one loaded network.

    Args:
        call: One run; the argument is its turn.
        callers: Threads.
        seconds: For how long new runs start [s].

    Returns:
        ``callers``, ``runs``, ``elapsed_s`` until the last answer, ``runs_per_s`` and ``samples_ms``.

    Raises:
        Exception: What a call raised; the first of them.
    """
    samples: list[list[float]] = [[] for _ in range(callers)]
    failed: list[Exception] = []
    ready = threading.Barrier(callers + 1)
    end = [0.0]

    def work(number: int) -> None:
        ready.wait()
        own, turn = samples[number], number
        while (start := time.perf_counter()) < end[0] or not own:
            call(turn)
            own.append((time.perf_counter() - start) * 1e3)
            turn += callers

    with _threads(work, callers, failed):
        begin = time.perf_counter()
        end[0] = begin + seconds
        ready.wait()
    elapsed = time.perf_counter() - begin
    merged = [value for own in samples for value in own]
    return {
        "callers": callers,
        "runs": len(merged),
        "elapsed_s": elapsed,
        "runs_per_s": len(merged) / elapsed,
        "samples_ms": merged,
    }


def open_loop(
    call: Callable[[int], object], rate: float, callers: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Requests that arrive by chance (Poisson) at a rate, whether or not earlier ones are done.

    Latency counts from a request's arrival, its wait included, so that a stall is charged to every request
    that arrives during it (no coordinated omission). After twice the time in which requests arrive, those
    that no thread has taken yet are left: an overload would else be served for ever.

    Args:
        call: One run; the argument is its turn.
        rate: Requests a second.
        callers: Threads that serve them.
        seconds: For how long requests arrive [s].
        seed: Of the arrivals.

    Returns:
        ``rate``, ``callers``, ``requests``, ``unserved``, ``served_per_s``; ``samples_ms`` and ``waits_ms``
        (the part before a thread took it) of those served; and ``backlog_s``: how long after the last arrival
        the last answer came.

    Raises:
        Exception: What a call raised; the first of them.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    arrivals = np.cumsum(gaps)
    lock, taken = threading.Lock(), [0]
    samples: list[tuple[float, float]] = []
    failed: list[Exception] = []
    begin = time.perf_counter()

    def work(_: int) -> None:
        while not failed:
            with lock:
                number = taken[0]
                if number >= len(arrivals) or time.perf_counter() - begin > 2 * seconds:
                    return
                taken[0] += 1
            arrival = begin + arrivals[number]
            time.sleep(max(0.0, arrival - time.perf_counter()))
            start = time.perf_counter()
            call(number)
            samples.append(((time.perf_counter() - arrival) * 1e3, (start - arrival) * 1e3))

    with _threads(work, callers, failed):
        pass
    elapsed = time.perf_counter() - begin
    return {
        "rate": rate,
        "callers": callers,
        "requests": len(arrivals),
        "unserved": len(arrivals) - len(samples),
        "served_per_s": len(samples) / elapsed,
        "samples_ms": [total for total, _ in samples],
        "waits_ms": [wait for _, wait in samples],
        "backlog_s": elapsed - float(arrivals[-1]),
    }


@contextlib.contextmanager
def _threads(work: Callable[[int], None], count: int, failed: list[Exception]) -> Iterator[None]:
    """Threads that start here and are waited for at the end, where the first of their exceptions is raised.

    Args:
        work: What each does, by its number.
        count: How many.
        failed: Takes their exceptions; ``work`` may look whether there is one.
    """

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # raised below, in the caller's thread
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
