"""How steady depth is over the frames of a clip, and what steadying it costs in accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.video.steadiness import FlickerMeter, ScaleSteadier

_RATE = 30.0  # frames a second


class SteadinessJudge:
    """Measures the flicker of a clip's depth, of its ground truth, and of the steadied depth.

    Args:
        metrics: Fresh metrics to judge the steadied depth by, in metres.
    """

    def __init__(self, metrics: DepthMetrics) -> None:
        self._metrics, self._steadier, self._count = metrics, ScaleSteadier(), 0
        self._meters = {name: FlickerMeter() for name in ("network", "ground_truth", "steady")}

    def update(self, depth: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Adds the next frame's depth and its truth, (H, W) [m]."""
        steady = self._steadier(depth, self._count / _RATE)
        self._count += 1
        self._metrics.update(steady, truth)
        for name, values in (("network", depth), ("ground_truth", truth), ("steady", steady)):
            self._meters[name].update(values)

    def compute(self) -> dict[str, Any]:
        """By ``network``, ``ground_truth`` and ``steady``: `FlickerMeter.compute`; what the truth changes is
        the motion of the camera. ``steady`` also has the ``metrics`` of the steadied depth.
        """
        found = {name: meter.compute() for name, meter in self._meters.items()}
        return found | {"steady": found["steady"] | {"metrics": self._metrics.compute()["metrics"]}}
