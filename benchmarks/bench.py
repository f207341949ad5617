"""What all shapes of one benchmark share, and the cases that its runners make at a shape."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.workload.cases import VARIANTS, Case, CaseId, NotRun, Runner
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import UnavailableError

Start = Callable[[Case], WorkerProcess]


def start_worker(case: Case, pythons: Mapping[str, str]) -> WorkerProcess:
    """A process for a case, of the Python that has its backend.

    Raises:
        BackendError: It did not start.
    """
    backend = VARIANTS[case.backend].of if case.backend in VARIANTS else case.backend
    return WorkerProcess(pythons.get(backend, sys.executable))


@dataclasses.dataclass(kw_only=True)
class Bench:
    """What all shapes of a benchmark share.

    Attributes:
        options: As given.
        bundle: The opened bundle.
        checkpoint: What it was made from, or None.
        runners: What to try, the baseline first.
        work: A folder for images and outputs.
        gpu: The GPU.
        not_run: What failed, added to here.
        start: Starts a case's process; raises `glpn_deploy.errors.BackendError` where it does not.
        accuracy: By backend and precision, once evaluated.
        unavailable: Failures of what was asked for by name, added to here.
        rounds: Rounds made so far.
    """

    options: BenchOptions
    bundle: Bundle
    checkpoint: Path | None
    runners: list[Runner]
    work: Path
    gpu: Gpu
    not_run: list[NotRun]
    start: Start
    accuracy: dict[CaseId, dict[str, Any]] = dataclasses.field(default_factory=dict)
    unavailable: list[UnavailableError] = dataclasses.field(default_factory=list)
    rounds: int = 0

    def case(self, runner: Runner, batch: int, height: int, width: int, images: tuple[str, ...]) -> Case:
        """A runner at a shape."""
        return Case(
            backend=runner.backend,
            precision=runner.precision,
            batch=batch,
            height=height,
            width=width,
            path=None if runner.path is None else str(runner.path),
            device=self.options.device,
            threads=self.options.threads,
            mode=self.options.mode,
            images=images,
            processor=self.bundle.processor.to_dict(),
            max_depth=self.bundle.manifest.config.max_depth,
            delay_ms=self.options.null_delay_ms if runner.backend == "null" else 0.0,
            label=runner.label,
            strict=not self.options.allow_fallback
            and (self.options.precisions is not None or runner.backend in VARIANTS),
        )

    def cases(self, batch: int, height: int, width: int, images: tuple[str, ...]) -> list[Case]:
        """What runs at a shape; engines that do not take it are noted."""
        found = []
        shape = (batch, *self.bundle.processor.target_size(height, width))
        for runner in self.runners:
            case = self.case(runner, batch, height, width, images)
            if runner.takes(shape):
                found.append(case)
            else:
                built = " or ".join(profile.name for profile in runner.profiles)
                self.not_run.append(NotRun(case.id, f"the engine was built for {built}"))
        return found
