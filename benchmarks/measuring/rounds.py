"""Rounds: each case once a round, in an order that changes, until the medians are known."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.machine.energy import Meter
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Usage, Watch
from glpn_deploy.benchmarks.measuring.latency_stats import summarize
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import RoundOptions
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.errors import BackendError
from glpn_deploy.timing.order_statistics import FEWEST

BEFORE = -1
"""The number under which the runs before the first round are kept."""

_BURST_S = 0.25
_CALIBRATION_S = 0.1
_WARM_UP_S = 0.5
_SLOW_MS = 1000.0  # a longer run refills its caches itself: no warm-up run
_PATIENCE = 3


@dataclasses.dataclass(eq=False, kw_only=True)
class CaseWorker:
    """The worker of a case, and what it has measured so far.

    Attributes:
        case: The case.
        process: Its process.
        loaded: Its answer to ``load``.
        samples: Runs that count, by round [ms].
        warm_up: Runs that do not [ms].
        usage: Who used the cores during its bursts.
        energy_j: Energy of the runs that count and their bursts' warm-up [J], or None where not told.
        images: Images that energy was spent on.
        throttled: What held the GPU's clocks down.
        peak_mib: Most host memory [MiB].
        stages: What is around a run, once a round, and the network's parts where it tells them [ms]; None
            leaves that out.
        failed: Why it stopped, or None.
    """

    case: Case
    process: WorkerProcess
    loaded: dict[str, Any]
    samples: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    warm_up: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    usage: Usage = dataclasses.field(default_factory=Usage)
    energy_j: float | None = None
    images: int = 0
    throttled: list[str] = dataclasses.field(default_factory=list)
    peak_mib: float | None = None
    stages: dict[str, list[float]] | None = None
    failed: str | None = None
    _runs: int = 1
    _warm: int = 1
    _turn: int = 0
    _settled: bool = False

    def prepare(self) -> None:
        """Warms up and finds out how many runs make a burst.

        Raises:
            BackendError: The worker failed.
        """
        taken = self.process.ask("run", runs=1, warm_up=0, turn=0)["samples_ms"]
        fewest = 1 if taken[0] > _SLOW_MS else 2
        more = max(fewest, min(200, round(_WARM_UP_S * 1e3 / max(taken[0], 1e-3))))
        taken += self.process.ask("run", runs=more, warm_up=0, turn=1)["samples_ms"]
        self.warm_up[BEFORE] = taken
        typical = sorted(taken[1:])[len(taken[1:]) // 2]
        length = _CALIBRATION_S if self.case.backend == CALIBRATION else _BURST_S
        self._runs = max(1, min(500, round(length * 1e3 / max(typical, 1e-3))))
        self._warm = 0 if typical > _SLOW_MS else 1

    def burst(self, number: int, watch: Watch, meter: Meter | None, gpu: Gpu) -> None:
        """One burst; an error is kept in ``failed``."""
        start_j = meter() if meter else None
        try:
            with watch.burst(self.usage) as own:
                reply = self.process.ask("run", runs=self._runs, warm_up=self._warm, turn=self._turn)
                own.append(reply["cpu_s"])
        except BackendError as error:
            self.failed = str(error)
            return
        end_j = meter() if meter else None
        if start_j is not None and end_j is not None:
            self.energy_j = (self.energy_j or 0.0) + end_j - start_j
            self.images += (self._runs + self._warm) * self.case.batch
        self.throttled += gpu.throttled()
        self.samples[number], self.warm_up[number] = reply["samples_ms"], reply["warm_up_ms"]
        self.peak_mib = reply["peak_mib"]
        self._turn += self._runs
        if self.stages is not None:
            with contextlib.suppress(BackendError):  # what it breaks shows in the next burst
                for name, taken in self.process.ask("stages", turn=self._turn).items():
                    self.stages.setdefault(name, []).append(taken)

    def settled(self, options: RoundOptions) -> bool:
        """Whether its median is known well enough, or once was.

        It is looked at after ``fewest`` rounds, twice as many and so on: each look is another chance to end
        at an interval that is narrow by luck. In simulations where rounds wander by 3 % in blocks of five,
        looking after every round from the tenth on made 11 % false verdicts on two equal runs, this 4 %.
        """
        count = len(self.samples)
        if not self._settled and count and count % options.fewest == 0:
            self._settled = summarize(self.samples).half_width <= options.half_width
        return self._settled

    def spent(self, options: RoundOptions) -> bool:
        """Whether its time is over."""
        patience = 1 if len(self.samples) >= FEWEST else _PATIENCE
        return self.usage.seconds >= patience * options.seconds


def measure_rounds(
    workers: list[CaseWorker],
    first: int,
    options: RoundOptions,
    watch: Watch,
    meter: Meter | None,
    gpu: Gpu,
    title: str,
) -> int:
    """Measures cases in rounds.

    A case that is settled, or whose time is over, waits. The calibration runs in every round; the first case,
    which others are compared with, goes on with them, but for no longer than `_PATIENCE` times its time.

    Args:
        workers: Warm ones; the calibration's among them is no case of its own.
        first: Number of the first round.
        options: When to stop.
        watch: Of the cores.
        meter: Of energy, or None.
        gpu: The GPU, asked for throttling.
        title: The step's name.

    Returns:
        The number that the next round would have.
    """
    order = random.Random(0)
    cases = [worker for worker in workers if worker.case.backend != CALIBRATION]
    calibration = [worker for worker in workers if worker.case.backend == CALIBRATION]
    unit, number = cases[0], first
    with progress.step(title) as step:
        while True:
            waiting = [c for c in cases if c.failed is not None or c.settled(options) or c.spent(options)]
            open_cases = [case for case in cases if case not in waiting]
            if not open_cases:
                break
            turn = [worker for worker in calibration if worker.failed is None] + open_cases
            if unit in waiting and unit.failed is None and unit.usage.seconds < _PATIENCE * options.seconds:
                turn.append(unit)
            order.shuffle(turn)
            for worker in turn:
                worker.burst(number, watch, meter, gpu)
            number += 1
            left = sum(max(0.0, options.seconds - case.usage.seconds) for case in open_cases)
            step.advance(
                f"round {number - first}, {len(open_cases)} of {len(cases)} open, up to {left:.0f} s"
            )
        runs = sum(len(values) for worker in cases for values in worker.samples.values())
        step.finish(f"{len(cases)} cases, {number - first} rounds, {runs} runs")
    return number
