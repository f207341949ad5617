"""Learning rates as functions of the step, so that a run that goes on needs no state of a scheduler."""

from __future__ import annotations

import math
from typing import Literal

LOW_SHARE = 0.3
"""The paper's 3e-5 as a share of its 1e-4."""
POWER = 0.9
WARM_UP = 0.03
"""Share of the steps over which ``cosine`` rises from 0."""


def learning_rate(step: int, total: int, peak: float, kind: Literal["paper", "cosine"] = "paper") -> float:
    """The learning rate of a step.

    ``paper`` rises from 0.3·peak over the first half and falls back over the second, both by the power
    0.9 of the way gone (3e-5 → 1e-4 → 3e-5 in the paper). ``cosine`` rises in a line over the first 3 %
    of the steps and falls along half a cosine to 0.
    """
    done = step / total
    if kind == "paper":
        low = LOW_SHARE * peak
        if done < 0.5:
            return low + (peak - low) * math.pow(2 * done, POWER)
        return peak - (peak - low) * math.pow(2 * done - 1, POWER)
    warm_up = max(1, round(WARM_UP * total))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))
