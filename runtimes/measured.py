"""A runtime that times several backends on the first batch it is given and keeps the fastest."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.base import Reason, Runtime, batch_shape


class MeasuredRuntime(Runtime):
    """Until the first batch it is all of its candidates; from then on the one that ran that batch fastest.

    Every candidate runs once unmeasured, then all in turns, so that a machine that slows down slows all
    of them down; the medians decide. The others are closed. Batches of other shapes run on the winner.

    Args:
        candidates: Loaded runtimes of one network, the one thought fastest first. They now belong to this.
        rounds: Measured runs of each.
        enough_s: No further round is begun once the measuring has taken this long [s].
    """

    def __init__(self, candidates: Sequence[Runtime], rounds: int = 5, enough_s: float = 5.0) -> None:
        self._candidates = list(candidates)
        self._rounds, self._enough = rounds, enough_s
        self._winner: Runtime | None = None
        self._lock = threading.Lock()
        names = [runtime.backend for runtime in candidates]
        self._take(candidates[0], Reason(f"auto measures {' and '.join(names)} on the first batch"))
        limits = [runtime.spec for runtime in candidates]
        self.spec = dataclasses.replace(limits[0], size_multiple=max(s.size_multiple for s in limits))

    def _take(self, runtime: Runtime, *reasons: Reason) -> None:
        self.backend, self.device = runtime.backend, runtime.device
        self.precision, self.max_depth, self.reasons = runtime.precision, runtime.max_depth, reasons

    def warm_up(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As of any runtime: measures, if that is still to be done, and warms the winner up."""
        if self._winner is None:
            self.run_unchecked(pixel_values)
        assert self._winner is not None
        return self._winner.warm_up(pixel_values)

    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        if self._winner is None:
            with self._lock:
                if self._winner is None:
                    return self._measure(pixel_values)
        assert self._winner is not None
        return self._winner.run_unchecked(pixel_values)

    def _measure(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        depths: dict[int, NDArray[np.float32]] = {}
        failed: list[Reason] = []
        for i, runtime in enumerate(self._candidates):
            try:
                depths[i] = runtime.run(pixel_values)
            except BackendError as error:
                failed.append(Reason(f"{runtime.backend} failed ({error})"))
                if not depths and i == len(self._candidates) - 1:
                    raise
        taken: dict[int, list[float]] = {i: [] for i in depths}
        begun = time.perf_counter()
        for round_number in range(self._rounds if len(depths) > 1 else 0):
            if round_number and time.perf_counter() - begun > self._enough:
                break
            for i in depths:
                start = time.perf_counter()
                self._candidates[i].run(pixel_values)
                taken[i].append(time.perf_counter() - start)
        medians = {i: statistics.median(times) for i, times in taken.items() if times}
        best = min(medians, key=medians.__getitem__) if medians else next(iter(depths))
        winner = self._candidates[best]
        told = [f"{self._candidates[i].backend} {1e3 * median:.3g} ms" for i, median in medians.items()]
        size = "x".join(str(side) for side in batch_shape(pixel_values))
        measured = f"auto took {winner.backend}, measured on {size}: {', '.join(told)}"
        chosen = [Reason(measured, of_choice=True)] if told else []
        own = [reason for reason in winner.reasons if not reason.of_choice]
        for runtime in self._candidates:
            if runtime is not winner:
                runtime.close()
        self._candidates = [winner]
        self._take(winner, *chosen, *failed, *own)
        self._winner = winner
        return depths[best]

    def describe(self) -> dict[str, Any]:
        """As of any runtime; of the winner once there is one."""
        about = super().describe() if self._winner is None else self._winner.describe() | super().describe()
        return about

    def _free(self) -> None:
        for runtime in self._candidates:
            runtime.close()
