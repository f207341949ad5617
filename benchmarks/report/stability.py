"""Whether a measurement can be believed: what disturbed it, in words."""

from __future__ import annotations

from collections.abc import Sequence

from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.latency_stats import Drift, Latency
from glpn_deploy.benchmarks.report.results import Row
from glpn_deploy.timing.order_statistics import FEWEST

_DRIFT, _DRIFT_P = 0.05, 0.01  # a share of the median, where chance gives such a trend more rarely than this
_OTHERS, _STOLEN = 0.1, 0.05  # cores on average


def judge_stability(
    latency: Latency, trend: Drift, usage: Usage, throttled: Sequence[str], half_width: float
) -> dict[str, str]:
    """Why a case is not stable, in words by kind; empty where it is.

    The kinds are ``rounds``, ``interval``, ``drift``, ``load``, ``stolen`` and ``throttled``.

    Args:
        latency: What was measured.
        trend: Of the rounds' medians.
        usage: Who used the cores during the bursts.
        throttled: What held the clocks down during the bursts.
        half_width: Half the median's interval that was asked for, as a share of the median.
    """
    reasons: dict[str, str] = {}
    if latency.rounds < FEWEST:
        reasons["rounds"] = f"only {latency.rounds} rounds within the time limit"
    elif latency.half_width > half_width:
        reasons["interval"] = (
            f"the median's interval is ±{latency.half_width:.1%} wide, asked were ±{half_width:.1%}"
        )
    if abs(trend.share) > _DRIFT and trend.p < _DRIFT_P:
        way = "slower" if trend.share > 0 else "faster"
        reasons["drift"] = f"it became {abs(trend.share):.0%} {way} from the first round to the last"
    if usage.others > _OTHERS:
        reasons["load"] = f"other processes took {usage.others:.1f} of its cores"
    if usage.stolen > _STOLEN:
        reasons["stolen"] = f"the hypervisor took {usage.stolen:.2f} of its cores"
    if throttled:
        reasons["throttled"] = f"clocks were held down ({', '.join(sorted(set(throttled)))})"
    return reasons


_KINDS = {
    "rounds": "too few rounds within the time limit for an interval",
    "interval": "the median is known less well than asked",
    "drift": "it became faster or slower from the first round to the last",
    "load": "other processes took some of its cores",
    "stolen": "the hypervisor took some of its cores",
    "throttled": "clocks were held down",
}


def unstable_lines(rows: Sequence[Row]) -> list[str]:
    """What disturbed a measurement: a line a kind, with the rows that it concerns."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for kind in row.reasons:
            found.setdefault(kind, {})[str(row.id.runner)] = None
    every = {str(row.id.runner) for row in rows}
    return [
        f"{_KINDS.get(kind, kind)}: {'all rows' if names.keys() == every else ', '.join(names)}"
        for kind, names in found.items()
    ]
