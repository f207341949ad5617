"""Whether a measurement can be believed: what disturbed it, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from glpn_deploy.benchmarks.machine.machine_state import Usage
from glpn_deploy.benchmarks.measuring.latency_stats import Drift, Latency
from glpn_deploy.errors import InputError
from glpn_deploy.timing.order_statistics import FEWEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityLimits:
    """From where on a measurement is not stable.

    Attributes:
        half_width: Half the median's interval, as a share of the median.
        drift: Change from the first round to the last, as a share of the median, where the trend is clear.
        drift_p: A trend is clear when chance gives one like it more rarely than this.
        others: Cores that other processes took on average.
        stolen: Cores that the hypervisor took on average.

    Raises:
        InputError: A limit is not above 0.
    """

    half_width: float = 0.02
    drift: float = 0.05
    drift_p: float = 0.01
    others: float = 0.1
    stolen: float = 0.05

    def __post_init__(self) -> None:
        for name, limit in dataclasses.asdict(self).items():
            if not limit > 0:
                raise InputError(f"the stability limit {name} is {limit}", expected="a number above 0")


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
