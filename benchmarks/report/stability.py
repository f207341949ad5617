"""Whether a measurement can be believed: what disturbed it, in words."""

from __future__ import annotations

from collections.abc import Sequence

from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.latency_stats import Drift, Latency
from glpn_deploy.benchmarks.options import StabilityLimits
from glpn_deploy.timing.order_statistics import FEWEST


def judge_stability(
    latency: Latency, trend: Drift, usage: Usage, throttled: Sequence[str], limits: StabilityLimits
) -> dict[str, str]:
    """Why a case is not stable, in words by kind; empty where it is.

    The kinds are ``rounds``, ``interval``, ``drift``, ``load``, ``stolen`` and ``throttled``.

    Args:
        latency: What was measured.
        trend: Of the rounds' medians.
        usage: Who used the cores meanwhile.
        throttled: What held the clocks down meanwhile.
        limits: From where on it counts.
    """
    reasons: dict[str, str] = {}
    if latency.rounds < FEWEST:
        reasons["rounds"] = f"only {latency.rounds} rounds within the time limit"
    elif latency.half_width > limits.half_width:
        reasons["interval"] = (
            f"the median's interval is ±{latency.half_width:.1%} wide, asked were ±{limits.half_width:.1%}"
        )
    if abs(trend.share) > limits.drift and trend.p < limits.drift_p:
        way = "slower" if trend.share > 0 else "faster"
        reasons["drift"] = f"it became {abs(trend.share):.0%} {way} from the first round to the last"
    if usage.others > limits.others:
        reasons["load"] = f"other processes took {usage.others:.1f} of its cores"
    if usage.stolen > limits.stolen:
        reasons["stolen"] = f"the hypervisor took {usage.stolen:.2f} of its cores"
    if throttled:
        reasons["throttled"] = f"clocks were held down ({', '.join(sorted(set(throttled)))})"
    return reasons
