"""Timing in turns: A B A B …, so that a machine's drift hits all alike and ratios hold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Times each call once a round.

    Args:
        calls: What to time, by name.
        rounds: Rounds that count.
        warm_up: Rounds before them that do not.

    Returns:
        Milliseconds of every counted call, by name, in the order of the rounds.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            elapsed = (time.perf_counter() - start) * 1e3
            if turn >= warm_up:
                samples[name].append(elapsed)
    return samples


def median_ratio(baseline: list[float], samples: list[float]) -> float:
    """How many times as fast ``samples`` is as ``baseline``: the median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(baseline, samples, strict=True))
