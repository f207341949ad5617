"""Timing in turns: A B A B …, so that a machine's drift hits all alike and ratios hold."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    *,
    swap: bool = False,
    limit_s: float = math.inf,
    fewest: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Times each call once a round.

    Args:
        rounds: Rounds that count, at most.
        warm_up: Rounds before them that do not.
        swap: Turn the order round from each round to the next, so that none is always the first.
        limit_s: No round starts after this [s] ...
        fewest: ... but so many are made in any case.
        advance: Called after every round that counts.

    Returns:
        Milliseconds of every counted call, by name, in the order of the rounds.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warm_up):
        for call in calls.values():
            call()
    begin = clock()
    for turn in range(rounds):
        if turn >= fewest and clock() - begin > limit_s:
            break
        for name in reversed(list(calls)) if swap and turn % 2 else calls:
            start = clock()
            calls[name]()
            samples[name].append((clock() - start) * 1e3)
        advance()
    return samples


def median_ratio(baseline: Sequence[float], samples: Sequence[float]) -> float:
    """How many times as fast ``samples`` is as ``baseline``: the median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(baseline, samples, strict=True))
