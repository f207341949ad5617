"""Confidence intervals of a median that assume nothing of the distribution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from glpn_deploy.errors import InputError

_CONFIDENCE = 0.95
FEWEST = 6
"""With fewer samples, no two of them enclose the median with 95 % confidence."""


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Two of the samples that enclose the median of what they were drawn from, whatever its distribution.

    The k-th smallest and the k-th largest of n independent samples do so with probability
    1 - 2 P(Binomial(n, 1/2) < k); k is the largest that keeps it at 95 %.

    Raises:
        InputError: There are too few samples for any two to do so.
    """
    rank = _rank(len(samples))
    if rank == 0:
        raise InputError(f"{len(samples)} samples", expected=f"enough for 95 % confidence ({FEWEST})")
    ordered = sorted(samples)
    return ordered[rank - 1], ordered[-rank]


@functools.lru_cache(maxsize=256)
def _rank(n: int) -> int:
    """The largest k of `median_interval`, 0 where there is none."""
    outside, k = 0, 0
    while k <= n // 2:
        outside += math.comb(n, k)  # times P(Binomial < k + 1) = outside / 2^n, in whole numbers
        if 1 - 2 * (outside / 2**n) < _CONFIDENCE:
            break
        k += 1
    return k
