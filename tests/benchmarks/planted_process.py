"""A worker's process that only pretends, for tests of what the parent makes of its answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.errors import BackendError


class PlantedProcess:
    """Answers as a worker would.

    Args:
        case: What it runs.
        median_ms: Of each run.
        depth: What the network gives for every pixel [m].
        fails: Requests that fail.
        peak_mib: Memory that it says it takes.
        device: What it says it runs on.
    """

    pid, start_s = 1, 0.1

    def __init__(
        self,
        case: Case,
        *,
        median_ms: float = 20.0,
        depth: float = 2.0,
        fails: tuple[str, ...] = (),
        peak_mib: float = 1.0,
        device: str = "cpu",
    ) -> None:
        self.case, self.median_ms, self.depth, self.fails = case, median_ms, depth, fails
        self.peak_mib, self.device = peak_mib, device

    def __enter__(self) -> PlantedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""

    def ask(self, do: str, limit_s: float = 0.0, **values: Any) -> Any:
        if do in self.fails:
            raise BackendError(f"planted: {do}")
        return getattr(self, do)(**values)

    def load(self, case: dict[str, Any]) -> dict[str, Any]:
        told = {"device": self.device, "peak_mib": self.peak_mib}
        if self.case.backend == CALIBRATION:
            return {**told, "by": "planted", "flops": 10**9}
        size = [side // 32 * 32 for side in (self.case.height, self.case.width)]
        return {**told, "network_size": size, "load_s": 0.2, "first_call_s": 0.3}

    def run(self, runs: int, warm_up: int, turn: int) -> dict[str, Any]:
        return {
            "samples_ms": [self.median_ms] * runs,
            "warm_up_ms": [self.median_ms] * warm_up,
            "cpu_s": 0.0,
            "peak_mib": self.peak_mib,
        }

    def overhead(self, runs: int) -> list[float]:
        return [1e-4] * runs

    def half_product(self) -> None:
        return None

    def stages(self, turn: int) -> dict[str, float]:
        return {"decode": 1.0}

    def operators(self) -> dict[str, float]:
        return {"Conv": 0.75 * self.median_ms}

    def outputs(self, path: str) -> None:
        np.save(path, np.full((1, 32, 32), self.depth, np.float32))

    def about(self) -> dict[str, Any]:
        return {"planted": True}

    def evaluate(self, dataset: str, path: str | None, count: int | None) -> dict[str, Any]:
        return {"delta1": 0.9, "abs_rel": 0.1, "rmse": 0.4, "images": count, "dataset": dataset}

    def callers(self, callers: int, seconds: float) -> dict[str, Any]:
        samples = [self.median_ms] * 4
        return {"callers": callers, "runs_per_s": 1e3 * callers / self.median_ms, "samples_ms": samples}
