"""Every disturbance is named, and a quiet measurement has none."""

from __future__ import annotations

import pytest

from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.latency_stats import drift, round_medians, summarize
from glpn_deploy.benchmarks.report.stability import judge_stability


def reasons(rounds, usage=None, throttled=()) -> dict[str, str]:
    trend = drift(round_medians(rounds))
    return judge_stability(summarize(rounds), trend, usage or Usage(), throttled, 0.02)


def test_quiet(samples) -> None:
    assert reasons(samples(20.0, 1, noise=0.01, wander=0.003)) == {}


def test_few_rounds(samples) -> None:
    assert list(reasons(samples(20.0, 1, rounds=4))) == ["rounds"]


def test_a_wide_interval(samples) -> None:
    assert "interval" in reasons(samples(20.0, 1, wander=0.1))


@pytest.mark.parametrize("way", ["slower", "faster"])
def test_drift(way, samples) -> None:
    rounds = samples(20.0, 1, noise=0.01, wander=0.003)
    sign = 1 if way == "slower" else -1
    drifting = {r: [value * (1 + sign * 0.01 * r) for value in rounds[r]] for r in rounds}
    assert way in reasons(drifting)["drift"]


def test_others_the_hypervisor_and_throttling(samples) -> None:
    usage = Usage(seconds=10, others_s=5, stolen_s=1)
    found = reasons(samples(20.0, 1, noise=0.01, wander=0.003), usage, ["power limit", "power limit"])
    assert list(found) == ["load", "stolen", "throttled"]
    assert "0.5" in found["load"]
    assert found["throttled"].count("power limit") == 1
