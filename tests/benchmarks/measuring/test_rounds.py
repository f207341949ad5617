"""Rounds over workers that only pretend, on a clock that only they move: order, ends, failures."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.rounds import BEFORE, CaseWorker, measure_rounds
from glpn_deploy.benchmarks.options import RoundOptions
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.errors import BackendError


class Planted:
    """Makes workers whose run takes as long as planted, alternating by a share; some die.

    Attributes:
        clock: Seconds that all of them have run.
        log: Their names, in the order of their runs.
    """

    def __init__(self) -> None:
        self.clock, self.log = [0.0], list[str]()

    def __call__(self, name: str, seconds: float, *, spread: float = 0.0, dies_at: int = 10**9) -> CaseWorker:
        asked = itertools.count(1)

        class Process:
            @staticmethod
            def ask(do: str, runs: int, warm_up: int, turn: int) -> dict[str, object]:
                number = next(asked)
                if number > dies_at:
                    raise BackendError("planted death")
                self.log.append(name)
                self.clock[0] += seconds
                took = 1e3 * seconds * (1 + spread * (-1) ** number)
                return {
                    "warm_up_ms": [took] * warm_up,
                    "samples_ms": [took] * runs,
                    "cpu_s": 0.0,
                    "peak_mib": 1.0,
                }

        backend = CALIBRATION if name == "unit" else "null"
        case = Case(backend=backend, precision="fp32", batch=1, height=32, width=32)
        return CaseWorker(case=case, process=Process(), loaded={})


class Watched:
    """A watch that goes by the planted clock."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    @contextlib.contextmanager
    def burst(self, usage: Usage) -> Iterator[list[float]]:
        begin = self._clock[0]
        yield []
        usage.seconds += self._clock[0] - begin


@pytest.fixture
def planted() -> Planted:
    return Planted()


def measure(planted: Planted, workers: list[CaseWorker], **options: Any) -> int:
    chosen = RoundOptions(**{"half_width": 0.01, "seconds": 5.0, **options})
    return measure_rounds(workers, 100, chosen, Watched(planted.clock), None, Gpu(), "rounds")


def test_everyone_runs_once_a_round_in_changing_order(planted) -> None:
    workers = [planted(name, 0.001) for name in ("unit", "a", "b", "c")]
    end = measure(planted, workers)
    assert end == 115  # settled as soon as may be
    rounds = [planted.log[i : i + 4] for i in range(0, 60, 4)]
    assert all(sorted(one) == ["a", "b", "c", "unit"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 3
    assert all(sorted(one.samples) == list(range(100, 115)) for one in workers)


def test_a_settled_case_waits_but_the_first_goes_on_with_the_open_ones(planted) -> None:
    first, calm, restless = planted("a", 0.001), planted("b", 0.001), planted("c", 0.01, spread=0.2)
    measure(planted, [planted("unit", 0.001), first, calm, restless], seconds=0.3)
    assert len(calm.samples) == 15
    assert len(restless.samples) > 15
    assert first.samples.keys() == restless.samples.keys()


def test_a_case_is_looked_at_after_fifteen_rounds_and_thirty_and_stays_settled(planted) -> None:
    case = planted("a", 0.001)
    seen = []
    for number in range(31):
        wide = 0.2 if number < 9 else 0.0
        case.samples[number] = [10 * (1 + wide * (-1) ** number)]
        seen.append(case.settled(RoundOptions()))
    assert seen.index(True) == 29  # its thirtieth round
    assert seen[29:] == [True, True]


def test_a_slow_case_gets_its_six_rounds_and_starves_nobody(planted) -> None:
    slow, quick = planted("slow", 0.06), planted("quick", 0.01, spread=0.2)
    measure(planted, [planted("unit", 0.001), quick, slow], seconds=0.2)
    assert len(slow.samples) == 6
    assert len(quick.samples) > 10


def test_a_hopelessly_slow_case_ends_at_three_times_its_time(planted) -> None:
    slow = planted("slow", 0.2)
    measure(planted, [planted("unit", 0.001), slow], seconds=0.1)
    assert len(slow.samples) == 2


def test_a_death_ends_its_case_alone(planted) -> None:
    dying, other = planted("a", 0.001, dies_at=3), planted("b", 0.001)
    measure(planted, [planted("unit", 0.001), dying, other])
    assert dying.failed == "planted death."
    assert len(dying.samples) == 3
    assert len(other.samples) == 15


def test_warming_up_sets_the_length_of_a_burst(planted) -> None:
    quick, slow = planted("a", 0.005), planted("b", 0.3)
    for one in (quick, slow):
        one.prepare()
        one.burst(0, Watched(planted.clock), None, Gpu())
    assert len(quick.samples[0]) == 50  # a quarter of a second
    assert len(slow.samples[0]) == 1
    assert len(quick.warm_up[0]) == 1
    assert len(quick.warm_up[BEFORE]) > 50


def test_stages_are_taken_once_a_round_and_a_failure_of_theirs_ends_nothing(planted) -> None:
    one, ask, failing = planted("a", 0.001), None, [False]
    ask = one.process.ask

    def answer(do: str, **values: Any) -> dict[str, object]:
        if do != "stages":
            return ask(do, **values)
        if failing[0]:
            raise BackendError("planted")
        return {"decode": float(values["turn"])}

    one.process.ask, one.stages = answer, {}
    for number in range(4):
        failing[0] = number == 3
        one.burst(number, Watched(planted.clock), None, Gpu())
    assert one.stages == {"decode": [1.0, 2.0, 3.0]}
    assert one.failed is None


def test_energy_is_that_of_the_bursts_by_image(planted) -> None:
    one, total = planted("a", 0.001), itertools.count(0.0, 2.0)  # J, more at each look
    for number in range(3):
        one.burst(number, Watched(planted.clock), lambda: next(total), Gpu())
    assert one.energy_j == pytest.approx(6.0)
    assert one.images == 3 * 2  # one run and one of warm-up
