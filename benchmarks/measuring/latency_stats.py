"""What can be said of latencies measured in rounds: median and its interval, percentiles, ratios, drift.

Runs of one burst follow each other within a second and are alike, so their number says little about how
well the median is known. The unit of every interval here is the round: its median is one sample. Where
rounds are alike too, because the machine wanders, the interval is as much wider.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from glpn_deploy.errors import InputError
from glpn_deploy.timing.order_statistics import FEWEST, median_interval

Rounds = Mapping[int, Sequence[float]]
"""Samples [ms] by the number of the round they were taken in."""

_MOST_LIKE = 0.75
"""Of 15 rounds more cannot be told from chance; with 0.9, changes of 10 % were missed in simulations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """What was measured of one case.

    Attributes:
        median_ms: Median over all runs [ms].
        low_ms: Lower end of the 95 % confidence interval of the median over rounds [ms], or None where
            there are too few rounds for one.
        high_ms: Upper end [ms].
        mad_ms: Median absolute deviation from the median, not scaled [ms].
        min_ms: Fastest run [ms].
        mean_ms: Mean [ms].
        p90_ms: 90th percentile [ms]; like the next two None where fewer runs than 1 / (1 - q) were made.
        p95_ms: 95th percentile [ms].
        p99_ms: 99th percentile [ms].
        runs: Runs that count.
        rounds: Rounds.
    """

    median_ms: float
    low_ms: float | None
    high_ms: float | None
    mad_ms: float
    min_ms: float
    mean_ms: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    runs: int
    rounds: int

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the median; infinite where there is no interval."""
        if self.low_ms is None or self.high_ms is None:
            return math.inf
        return (self.high_ms - self.low_ms) / 2 / self.median_ms


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One latency in units of another.

    Attributes:
        value: The ratio.
        low: Lower end of its 95 % confidence interval, or None where there are too few rounds.
        high: Upper end.
    """

    value: float
    low: float | None
    high: float | None

    def inverse(self) -> Ratio:
        """The other in units of the one."""
        low = None if self.high is None else 1 / self.high
        return Ratio(1 / self.value, low, None if self.low is None else 1 / self.low)


@dataclasses.dataclass(frozen=True)
class Drift:
    """A trend over rounds.

    Attributes:
        share: Change from the first round to the last by the Theil-Sen slope, as a share of the median.
        p: Chance of a trend this clear without one (Mann-Kendall, two-sided, normal approximation).
    """

    share: float
    p: float


def summarize(rounds: Rounds) -> Latency:
    """Median, spread and percentiles of one case.

    Raises:
        InputError: There is no run.
    """
    samples = np.concatenate([np.asarray(values, float) for values in rounds.values()] or [np.empty(0)])
    if not samples.size:
        raise InputError("a case has no runs", expected="at least one")
    median = float(np.median(samples))
    low = high = None
    if len(rounds) >= FEWEST:
        low, high = rounds_interval(round_medians(rounds))
        low, high = min(low, median), max(high, median)  # the median of all runs is not quite that of rounds

    def percentile(q: int) -> float | None:
        return float(np.percentile(samples, q)) if samples.size * (100 - q) >= 100 else None

    return Latency(
        median_ms=median,
        low_ms=low,
        high_ms=high,
        mad_ms=float(np.median(np.abs(samples - median))),
        min_ms=float(samples.min()),
        mean_ms=float(samples.mean()),
        p90_ms=percentile(90),
        p95_ms=percentile(95),
        p99_ms=percentile(99),
        runs=int(samples.size),
        rounds=len(rounds),
    )


def round_medians(rounds: Rounds) -> list[float]:
    """The median of every round, in their order [ms]."""
    return [statistics.median(rounds[number]) for number in sorted(rounds)]


def rounds_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median of values, all above 0, that were taken one after another.

    `median_interval`, whose ends move outwards on the logarithm where rounds are like the ones before them:
    by the square root of the factor by which the first autocorrelation raises the variance of a mean.

    Raises:
        InputError: There are fewer than `FEWEST`.
    """
    low, high = median_interval(values)
    likeness, median = _likeness(values), statistics.median(values)
    wider = math.sqrt((1 + likeness) / (1 - likeness))
    return median * (low / median) ** wider, median * (high / median) ** wider


def _likeness(values: Sequence[float]) -> float:
    """The first autocorrelation, 0 to `_MOST_LIKE`, its bias in short series taken off.

    The bias is -(1 + 4 rho) / n (Marriott and Pope, Biometrika 1954).
    """
    series = np.asarray(values, float) - statistics.fmean(values)
    power = float(series @ series)
    if power == 0:
        return 0.0
    found = float(series[1:] @ series[:-1]) / power
    return min(max(found + (1 + 4 * found) / len(series), 0.0), _MOST_LIKE)


def ratio_in_turns(rounds: Rounds, unit: Rounds) -> Ratio | None:
    """How long a case takes in units of another that was measured in the same rounds.

    The median over rounds of the ratio within each: what slows both down in a round cancels.

    Returns:
        The ratio, or None where they share no round.
    """
    shared = sorted(rounds.keys() & unit.keys())
    if not shared:
        return None
    ratios = [statistics.median(rounds[r]) / statistics.median(unit[r]) for r in shared]
    if len(ratios) < FEWEST:
        return Ratio(statistics.median(ratios), None, None)
    return Ratio(statistics.median(ratios), *rounds_interval(ratios))


def ratio_of_medians(units: Sequence[float], other: Sequence[float]) -> Ratio:
    """How large the median of independent ``units`` is in units of that of ``other``.

    The two intervals are put together on the logarithm by MOVER (Donner and Zou, Statistical Methods in
    Medical Research 2012): the distances from the estimates to the ends add as squares.

    Raises:
        InputError: One of them is empty.
    """
    if not units or not other:
        raise InputError("one side of a ratio has no samples", expected="at least one on each")
    above, below = math.log(statistics.median(units)), math.log(statistics.median(other))
    value = above - below
    if min(len(units), len(other)) < FEWEST:
        return Ratio(math.exp(value), None, None)
    low_a, high_a = (math.log(end) for end in rounds_interval(units))
    low_b, high_b = (math.log(end) for end in rounds_interval(other))
    low = value - math.hypot(above - low_a, high_b - below)
    high = value + math.hypot(high_a - above, below - low_b)
    return Ratio(math.exp(value), math.exp(low), math.exp(high))


def drift(values: Sequence[float]) -> Drift:
    """The trend of values taken one after another; none where there are fewer than `FEWEST`."""
    n = len(values)
    if n < FEWEST:
        return Drift(0.0, 1.0)
    series = np.asarray(values, float)
    first, second = np.triu_indices(n, 1)
    steps = series[second] - series[first]
    slope = float(np.median(steps / (second - first)))
    score = float(np.sign(steps).sum())
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    z = max(abs(score) - 1, 0) / deviation
    return Drift(slope * (n - 1) / float(np.median(series)), math.erfc(z / math.sqrt(2)))
