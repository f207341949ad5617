"""What is measured, and how: the options of a benchmark."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from glpn_deploy.benchmarks.measuring.rounds import RoundOptions
from glpn_deploy.benchmarks.report.stability import StabilityLimits
from glpn_deploy.benchmarks.workload.cases import PEERS
from glpn_deploy.errors import InputError
from glpn_deploy.runtimes.base import Device, Precision, RuntimeOptions
from glpn_deploy.runtimes.registry import BACKENDS


@dataclasses.dataclass(frozen=True)
class EvalChoice:
    """A data set to judge every backend and precision on.

    Attributes:
        dataset: Its kind, see `glpn_deploy.datasets.registry.open_dataset`.
        path: Where it lies; rooms lie nowhere.
        count: Rooms to render.
    """

    dataset: Literal["nyu", "kitti", "folder", "rooms"]
    path: str | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and how.

    Attributes:
        backends: Names; None takes all that are installed.
        precisions: Names; None takes all.
        shapes: Sizes of the images (height, width) [px].
        batches: Images a run.
        baseline: Backend or peer, alone or as ``backend:precision``; None takes torch FP32 or the first row.
        peers: Other projects' rows.
        reference: Checkpoint that the bundle was made from; None takes the manifest's where it is at hand.
        images: Folder of photographs; None takes the bundle's goldens.
        device: Where to run.
        threads: Threads within one operator; None leaves the backends' defaults.
        rounds: When rounds stop.
        limits: From where on a row is not stable; its ``half_width`` is that of ``rounds``.
        max_workers: Most workers that run at a time.
        stages: Also measure the stages.
        evaluate: A data set to judge on, or None.
        callers: Numbers of threads that call one loaded network at a time; empty leaves that out.
        load_seconds: For how long each number calls [s].
        offline: Use the hub's cache only.
        null_delay_ms: The null backend's planted delay [ms], for tests.
        pythons: By backend or peer, another Python that has its packages, where they are not this one's.

    Raises:
        InputError: A value is out of range.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    shapes: tuple[tuple[int, int], ...] = ((480, 640),)
    batches: tuple[int, ...] = (1,)
    baseline: str | None = None
    peers: tuple[str, ...] = ()
    reference: str | None = None
    images: Path | None = None
    device: Device = "auto"
    threads: int | None = None
    rounds: RoundOptions = RoundOptions()  # noqa: RUF009 - frozen
    limits: StabilityLimits = StabilityLimits()  # noqa: RUF009 - frozen
    max_workers: int = 8
    stages: bool = True
    evaluate: EvalChoice | None = None
    callers: tuple[int, ...] = ()
    load_seconds: float = 5.0
    offline: bool = False
    null_delay_ms: float = 0.0
    pythons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        RuntimeOptions(self.device, threads=self.threads)
        if not self.shapes or not self.batches or min(itertools.chain(*self.shapes, self.batches)) < 1:
            raise InputError(
                f"shapes {self.shapes} and batches {self.batches} cannot be measured",
                expected="positive numbers",
            )
        if min(self.callers, default=1) < 1 or not 0 < self.load_seconds < math.inf:
            raise InputError(
                f"{self.callers} callers cannot call for {self.load_seconds} s",
                expected="finite numbers above 0",
            )
        for name in self.pythons:
            if name not in BACKENDS and name not in PEERS:
                known = ", ".join((*BACKENDS, *PEERS))
                raise InputError(
                    f"a Python for backend {name!r} was given, which is unknown", expected=f"one of {known}"
                )
        if self.max_workers < 3:
            raise InputError(f"{self.max_workers} workers at a time are too few", expected="at least 3")

    def settings(self) -> dict[str, Any]:
        """For the report."""
        values = dataclasses.asdict(self)
        return {**values, "images": None if self.images is None else str(self.images)}
