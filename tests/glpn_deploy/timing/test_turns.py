"""Timing in turns, against planted delays."""

from __future__ import annotations

import itertools
import time

import pytest

from glpn_deploy.timing.turns import in_turns, median_ratio


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    samples = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3}


def test_a_planted_delay_is_found_in_milliseconds() -> None:
    samples = in_turns({"fast": lambda: time.sleep(0.02), "slow": lambda: time.sleep(0.08)}, rounds=5)
    assert min(samples["fast"]) >= 20
    assert min(samples["slow"]) >= 80
    assert median_ratio(samples["slow"], samples["fast"]) == pytest.approx(4, rel=0.35)


def test_the_ratio_is_taken_round_by_round() -> None:
    assert median_ratio([10, 100, 30], [5, 50, 10]) == 2  # a machine ten times slower in one round


def test_the_order_is_turned_round_where_asked_for() -> None:
    order: list[str] = []
    ticks = itertools.count()
    samples = in_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=6,
        swap=True,
        clock=lambda: float(next(ticks)),
    )
    assert "".join(order) == "ab" + "abba" * 3
    assert samples == {"a": [1000.0] * 6, "b": [1000.0] * 6}  # the clock moves one second a look


def test_the_time_limit_ends_the_rounds_but_not_before_the_fewest() -> None:
    def rounds(limit: float) -> int:
        ticks = itertools.count()
        calls = {"a": lambda: None, "b": lambda: None}
        samples = in_turns(calls, 40, 0, limit_s=limit, fewest=6, clock=lambda: float(next(ticks)))
        return len(samples["a"])

    assert rounds(1) == 6
    assert 6 < rounds(50) < 40
    assert rounds(1e9) == 40
