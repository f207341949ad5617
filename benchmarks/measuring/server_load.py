"""A server under load: callers that wait for their answers, or images that come whether or not answers do."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.benchmarks.measuring.load import closed_loop, percentiles
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.errors import BackendError, GlpnError
from glpn_deploy.scale.triton.kserve import KserveClient

_MODELS = ("glpn", "glpn_python")
_WORKERS = 128  # of an open loop: more answers than this are not waited for at a time


@dataclasses.dataclass(frozen=True)
class Load:
    """One level of load.

    Attributes:
        callers: How many called at a time; None for images at a rate.
        rate: Images a second that were sent; None for callers.
        seconds: From the first call to the last answer [s].
        latencies_ms: Of the answers with depth; of images at a rate from when each should have been sent.
        errors: What the others were answered, and how often.
    """

    callers: int | None
    rate: float | None
    seconds: float
    latencies_ms: tuple[float, ...]
    errors: dict[str, int]

    @property
    def requests(self) -> int:
        """All that were answered."""
        return len(self.latencies_ms) + sum(self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON: images a second, percentiles where enough answers tell them, share of errors."""
        return {
            "callers": self.callers,
            "rate": self.rate,
            "requests": self.requests,
            "seconds": self.seconds,
            "images_per_s": len(self.latencies_ms) / self.seconds,
            **(percentiles(self.latencies_ms) if self.latencies_ms else {}),
            "error_share": sum(self.errors.values()) / self.requests,
            "errors": self.errors,
        }


def choose_model(url: str, asked: str | None) -> str:
    """The model to call.

    Raises:
        InputError: The URL is invalid.
        BackendError: The server does not answer, or has no such model.
    """
    with KserveClient(url) as client:
        have = client.models()
    wanted = _MODELS if asked is None else (asked,)
    found = next((name for name in wanted if name in have), None)
    if found is None:
        raise BackendError(
            f"{url} has no model {' or '.join(wanted)} that is ready",
            expected=f"one of {', '.join(have) or 'no models at all'}",
            fix="say which: --model NAME",
        )
    return found


def measure_server(
    options: ServerOptions, model: str, images: Sequence[bytes], seconds: float
) -> Iterator[Load]:
    """Every number of callers that is asked for, or the rate.

    Args:
        options: What is asked of the server.
        model: The one that is called.
        images: Files' bytes, taken in turn.
        seconds: For how long new requests start [s], a level.

    Raises:
        GlpnError: Not one image could be asked for.
    """
    assert options.server is not None
    for callers in (None,) if options.rate is not None else options.server_callers:
        title = f"{options.rate:g} images/s" if callers is None else f"{callers} callers"
        with progress.step(title) as step, _Callers(options.server, model, images) as calls:
            calls.call(0)  # connects, and fails where nothing could be measured
            if callers is None:
                assert options.rate is not None
                elapsed = open_loop(calls.timed_since, options.rate, seconds)
            else:
                elapsed = closed_loop(calls.timed, callers, seconds)["elapsed_s"]
            found = Load(callers, options.rate, elapsed, tuple(calls.latencies_ms), dict(calls.errors))
            step.finish(f"{len(found.latencies_ms) / elapsed:.1f} images/s")
        yield found


def open_loop(call: Callable[[int, float], object], rate: float, seconds: float, seed: int = 0) -> float:
    """Starts calls at random moments, a Poisson process, without waiting for the ones before.

    Args:
        call: One run, of its number and the moment that it was due (`time.perf_counter`).
        rate: Calls a second on average.
        seconds: For how long new ones start [s].
        seed: Of the moments.

    Returns:
        Seconds from the first moment to the last answer.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    begin = time.perf_counter()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for number, due in enumerate(begin + np.cumsum(gaps)):
            time.sleep(max(0.0, due - time.perf_counter()))
            pool.submit(call, number, float(due))
    return time.perf_counter() - begin


class _Callers:
    """Calls a model from any thread, and keeps what came of it; connections are kept open between calls."""

    def __init__(self, url: str, model: str, images: Sequence[bytes]) -> None:
        self._url, self._model, self._images = url, model, images
        self._idle: queue.SimpleQueue[KserveClient] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.latencies_ms: list[float] = []
        self.errors: Counter[str] = Counter()

    def call(self, number: int) -> None:
        """One call, of the image whose turn it is.

        Raises:
            GlpnError: As `KserveClient.depth`.
        """
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = KserveClient(self._url)
        try:
            client.depth(self._model, self._images[number % len(self._images)])
        finally:
            self._idle.put(client)

    def timed(self, number: int) -> None:
        """One call that is kept."""
        self.timed_since(number, time.perf_counter())

    def timed_since(self, number: int, start: float) -> None:
        """One call that is kept, with its time since ``start``."""
        try:
            self.call(number)
        except GlpnError as error:
            with self._lock:
                self.errors[str(error)] += 1
        else:
            milliseconds = (time.perf_counter() - start) * 1e3
            with self._lock:
                self.latencies_ms.append(milliseconds)

    def __enter__(self) -> _Callers:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._idle.empty():
            self._idle.get().close()
