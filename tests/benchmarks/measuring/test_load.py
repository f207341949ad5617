"""Load generators on planted delays."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from glpn_deploy.benchmarks.measuring.load import closed_loop, open_loop
from glpn_deploy.benchmarks.measuring.load_runs import LoadOptions, memory_growth, memory_words, percentiles
from glpn_deploy.errors import InputError


def sleeper(seconds: float, lock: threading.Lock | None = None):
    def call(turn: int) -> None:
        if lock is None:
            time.sleep(seconds)
        else:
            with lock:
                time.sleep(seconds)

    return call


def test_callers_that_do_not_hinder_each_other_add_up() -> None:
    alone, four = (closed_loop(sleeper(0.01), callers, 0.4) for callers in (1, 4))
    assert four["runs_per_s"] == pytest.approx(4 * alone["runs_per_s"], rel=0.4)
    assert min(four["samples_ms"]) >= 10


def test_callers_of_one_lock_wait_for_each_other() -> None:
    four = closed_loop(sleeper(0.01, threading.Lock()), 4, 0.4)
    assert four["runs_per_s"] <= 100
    assert np.mean(four["samples_ms"]) >= 30  # the lock need not be fair: medians vary


def test_each_caller_runs_at_least_once_and_errors_come_out() -> None:
    assert closed_loop(sleeper(0.05), 3, 0.001)["runs"] == 3

    def broken(turn: int) -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        closed_loop(broken, 2, 0.1)
    with pytest.raises(ValueError, match="planted"):
        open_loop(broken, 100, 2, 0.1, 0)


def test_arrivals_keep_their_rate_and_are_all_served() -> None:
    found = open_loop(sleeper(0.001), rate=100, callers=4, seconds=0.5, seed=0)
    assert found["requests"] == 50
    assert found["served_per_s"] == pytest.approx(100, rel=0.4)
    assert min(found["samples_ms"]) >= 1


def test_a_stall_is_charged_to_all_who_arrive_meanwhile() -> None:
    """A load generator that waits for answers would see one slow run; here a fifth of them are."""
    stalled = threading.Event()

    def call(turn: int) -> None:
        if not stalled.is_set():
            stalled.set()
            time.sleep(0.2)

    found = open_loop(call, rate=100, callers=1, seconds=1.0, seed=1)
    assert sum(value > 20 for value in found["samples_ms"]) >= 10


def test_more_than_can_be_served_piles_up() -> None:
    found = open_loop(sleeper(0.02), rate=80, callers=1, seconds=0.5, seed=0)
    assert found["backlog_s"] > 0.2
    assert found["waits_ms"][-1] > 200
    assert found["unserved"] == 0


def test_an_overload_is_left_after_twice_its_time() -> None:
    begin = time.perf_counter()
    found = open_loop(sleeper(0.02), rate=100_000, callers=2, seconds=0.3, seed=0)
    assert time.perf_counter() - begin < 2
    assert found["requests"] == 30_000
    assert len(found["samples_ms"]) == 30_000 - found["unserved"]
    assert found["served_per_s"] == pytest.approx(100, rel=0.4)


def test_a_leak_is_told_from_pools_that_fill() -> None:
    steps = np.arange(20)
    assert memory_growth([100 + 5.0 * n for n in steps])["leak_suspected"]
    filling = memory_growth([100 + 50 * (1 - 0.3**n) for n in steps])
    assert not filling["leak_suspected"]
    assert memory_growth([1.0, 2.0]) == {"growth_mib": None, "leak_suspected": False}


def test_memory_in_words() -> None:
    assert memory_words(memory_growth([1.0, 2.0])) == "memory not judged"
    assert memory_words({"growth_mib": -0.25, "leak_suspected": False}) == "memory steady (-0.2 MiB)"
    assert memory_words({"growth_mib": 9.0, "leak_suspected": True}) == "memory grows (+9.0 MiB)"


@pytest.mark.parametrize(
    "change",
    [{"callers": (0,)}, {"rates": (np.nan,)}, {"rates": (np.inf,)}, {"seconds": np.nan}, {"soak_s": np.inf}],
)
def test_options_out_of_range(change) -> None:
    with pytest.raises(InputError, match="expected finite numbers above 0"):
        LoadOptions(**change)


def test_options_and_percentiles() -> None:
    with pytest.raises(InputError, match="at most 1000000 arrivals"):
        LoadOptions(rates=(1e6,), seconds=2.0)
    assert not LoadOptions().wanted
    assert percentiles(list(range(20))).keys() == {"median_ms", "p90_ms", "p95_ms"}
