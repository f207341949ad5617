"""The distribution of a tensor's magnitudes, gathered piece by piece, and where to clip it for 8 bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins of a histogram; between half of them and all lie below the largest magnitude."""

_SMALLEST_EXPONENT = -100  # below, 1 / width is no float32; such a tensor is all zeros to a network


class MagnitudeHistogram:
    """Smallest and largest value and a histogram of |x|, over any number of arrays.

    The bins' width is a power of two that depends on the largest magnitude alone: when it grows,
    neighbours are added up, which is exact. So the result does not depend on how the values were cut
    into pieces or in which order they came.

    Args:
        detailed: Keep the histogram; without, only the smallest and largest value.

    Attributes:
        low: Smallest value so far; infinity before the first.
        high: Largest value so far; minus infinity before the first.
        counts: (BINS,) int64.
    """

    def __init__(self, *, detailed: bool = True) -> None:
        self.detailed = detailed
        self.low, self.high = math.inf, -math.inf
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self._exponent: int | None = None  # of the range that the bins span, 2**exponent

    @property
    def width(self) -> float:
        """Width of a bin; 0 where all values were 0."""
        return 0.0 if self._exponent is None else math.ldexp(1.0, self._exponent) / BINS

    @property
    def largest(self) -> float:
        """Largest magnitude; 0 before the first value."""
        return max(abs(self.low), abs(self.high)) if self.high >= self.low else 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes in an array of any shape.

        Raises:
            ValueError: A value is NaN or infinite.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("NaN or infinite values")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not self.detailed:
            return
        self._widen(self.largest)
        if self._exponent is None:
            self.counts[0] += values.size
            return
        scaled = np.abs(values.ravel())
        scaled *= np.float32(1 / self.width)  # a power of two: exact
        self.counts += np.bincount(scaled.astype(np.int32), minlength=BINS)

    def _widen(self, largest: float) -> None:
        if largest == 0:
            return
        exponent = max(math.frexp(largest)[1], _SMALLEST_EXPONENT)  # largest < 2**exponent
        if self._exponent is None:
            self._exponent = exponent
        while self._exponent < exponent:
            self.counts[: BINS // 2] = self.counts[0::2] + self.counts[1::2]
            self.counts[BINS // 2 :] = 0
            self._exponent += 1

    def percentile(self, percent: float) -> float:
        """A magnitude that ``percent`` of the values do not exceed, rounded up to the end of a bin."""
        total = int(self.counts.sum())
        if not total or not self.width:
            return self.largest
        index = int(np.searchsorted(np.cumsum(self.counts), math.ceil(total * percent / 100)))
        return min((index + 1) * self.width, self.largest)
