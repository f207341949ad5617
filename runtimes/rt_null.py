"""The null backend: a constant depth after a planted delay, for tests and for measuring overhead."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.runtimes.base import InputSpec, Precision, Runtime, RuntimeOptions


class NullRuntime(Runtime):
    """Answers every batch with one depth.

    Args:
        depth_m: The depth given for every pixel [m].
        delay_ms: How long a run takes at least [ms].
        precision: What it claims to compute in.
    """

    backend = "null"
    device = "none"
    max_depth = 10.0

    def __init__(self, depth_m: float = 1.0, delay_ms: float = 0.0, precision: Precision = "fp32") -> None:
        self.spec = InputSpec()
        self.precision = precision
        self._depth, self._delay = depth_m, delay_ms / 1e3
        self.max_depth = max(self.max_depth, depth_m)

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._delay:
            time.sleep(self._delay)
        batch, _, height, width = pixel_values.shape
        return np.full((batch, height, width), self._depth, np.float32)


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """A null runtime; the file is not looked at."""
    return NullRuntime(precision=options.precision)
