"""Rounds over workers that only pretend: order, ends, failures."""

from __future__ import annotations

import time

import pytest

from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Watch
from glpn_deploy.benchmarks.measuring.rounds import BEFORE, Live, RoundOptions, measure_rounds
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.errors import BackendError


class Pretender:
    """A worker whose run takes as long as planted, alternating by a share."""

    def __init__(
        self, log: list[str], name: str, seconds: float, spread: float = 0.0, dies_at: int = 10**9
    ) -> None:
        self.log, self.name, self.seconds, self.spread, self.dies_at = log, name, seconds, spread, dies_at
        self.asked = 0

    def ask(self, do: str, runs: int, warm_up: int, turn: int, **_: object) -> dict:
        self.asked += 1
        if self.asked > self.dies_at:
            raise BackendError("planted death")
        self.log.append(self.name)
        time.sleep(self.seconds)
        took = 1e3 * self.seconds * (1 + self.spread * (-1) ** self.asked)
        return {"warm_up_ms": [took] * warm_up, "samples_ms": [took] * runs, "cpu_s": 0.0, "peak_mib": 1.0}


@pytest.fixture
def live():
    log: list[str] = []

    def make(name: str, seconds: float, **options: object) -> Live:
        case = Case(CALIBRATION if name == "unit" else "null", "fp32", 1, 32, 32)
        return Live(case, Pretender(log, name, seconds, **options), {})

    make.log = log
    return make


def measure(lives: list[Live], **options: object) -> int:
    chosen = RoundOptions(**{"half_width": 0.01, "seconds": 5.0, **options})
    return measure_rounds(lives, 100, chosen, Watch(), None, Gpu(), "rounds")


def test_everyone_runs_once_a_round_in_changing_order(live) -> None:
    lives = [live(name, 0.001) for name in ("unit", "a", "b", "c")]
    end = measure(lives)
    assert end == 115  # settled as soon as may be
    rounds = [live.log[i : i + 4] for i in range(0, 60, 4)]
    assert all(sorted(one) == ["a", "b", "c", "unit"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 3
    assert all(sorted(one.samples) == list(range(100, 115)) for one in lives)


def test_a_settled_case_waits_but_the_first_goes_on_with_the_open_ones(live) -> None:
    first, calm, restless = live("a", 0.001), live("b", 0.001), live("c", 0.01, spread=0.2)
    measure([live("unit", 0.001), first, calm, restless], seconds=0.3)
    assert len(calm.samples) == 15
    assert len(restless.samples) > 15
    assert first.samples.keys() == restless.samples.keys()


def test_a_case_is_looked_at_after_fifteen_rounds_and_thirty_and_stays_settled(live) -> None:
    case = live("a", 0.001)
    seen = []
    for number in range(31):
        wide = 0.2 if number < 9 else 0.0
        case.samples[number] = [10 * (1 + wide * (-1) ** number)]
        seen.append(case.settled(RoundOptions()))
    assert seen.index(True) == 29  # its thirtieth round
    assert seen[29:] == [True, True]


def test_a_slow_case_gets_its_six_rounds_and_starves_nobody(live) -> None:
    slow, quick = live("slow", 0.06), live("quick", 0.01, spread=0.2)
    measure([live("unit", 0.001), quick, slow], seconds=0.2)
    assert len(slow.samples) == 6
    assert len(quick.samples) > 10


def test_a_hopelessly_slow_case_ends_at_three_times_its_time(live) -> None:
    slow = live("slow", 0.2)
    measure([live("unit", 0.001), slow], seconds=0.1)
    assert len(slow.samples) == 2


def test_a_death_ends_its_case_alone(live) -> None:
    dying, other = live("a", 0.001, dies_at=3), live("b", 0.001)
    measure([live("unit", 0.001), dying, other])
    assert dying.failed == "planted death."
    assert len(dying.samples) == 3
    assert len(other.samples) == 15


def test_warming_up_sets_the_length_of_a_burst(live) -> None:
    quick, slow = live("a", 0.005), live("b", 0.3)
    for one in (quick, slow):
        one.prepare()
        one.burst(0, Watch(), None, Gpu())
    assert len(quick.samples[0]) == 50  # a quarter of a second
    assert len(slow.samples[0]) == 1
    assert len(quick.warm_up[0]) == 1
    assert len(quick.warm_up[BEFORE]) > 50


class Counter:
    """An energy meter that counts how often it is asked."""

    source = "planted"
    total = 0.0

    def joules(self) -> float:
        self.total += 2.0
        return self.total

    def close(self) -> None:
        """Nothing runs."""


def test_energy_is_that_of_the_bursts_by_image(live) -> None:
    one = live("a", 0.001)
    for number in range(3):
        one.burst(number, Watch(), Counter(), Gpu())
    assert one.energy_j == pytest.approx(6.0)
    assert one.images == 3 * 2  # one run and one of warm-up
