"""Timing in turns, against planted delays."""

from __future__ import annotations

import time

import pytest

from glpn_deploy.benchmarks.environment import describe_environment
from glpn_deploy.benchmarks.measure import in_turns, median_ratio


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


def test_the_environment_names_machine_and_versions() -> None:
    environment = describe_environment()
    assert environment["versions"]["torch"]
    assert "cores" in environment["processor"]
    assert environment["python"].startswith("3.")
