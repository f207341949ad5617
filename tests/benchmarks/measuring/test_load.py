"""Callers of one network, on planted calls that wait for each other rather than for the clock."""

from __future__ import annotations

import threading

import pytest

from glpn_deploy.benchmarks.measuring.load import closed_loop, percentiles


def test_callers_run_side_by_side() -> None:
    """Each call returns only when all three callers are within theirs."""
    together = threading.Barrier(3, timeout=60)
    assert closed_loop(lambda turn: together.wait(), 3, 0.0)["runs"] == 3


def test_each_caller_takes_its_own_turns_until_the_time_is_over() -> None:
    turns: list[int] = []
    found = closed_loop(turns.append, 2, 0.05)
    assert {turn % 2 for turn in turns} == {0, 1}
    assert len(set(turns)) == len(turns) == found["runs"] == len(found["samples_ms"])
    assert found["elapsed_s"] >= 0.05
    assert found["runs_per_s"] == pytest.approx(found["runs"] / found["elapsed_s"])


def test_what_a_call_raises_comes_out() -> None:
    def broken(turn: int) -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        closed_loop(broken, 2, 0.1)


def test_percentiles_need_their_number_of_runs() -> None:
    assert percentiles(list(range(20))).keys() == {"median_ms", "p90_ms", "p95_ms"}
