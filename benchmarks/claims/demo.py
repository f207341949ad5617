"""How right the demo network is: on rendered rooms that it never saw, and on a real photograph.

The photograph is the Middlebury motorcycle that scikit-image ships. One image says little about a network; it
says something about one that was trained on rendered rooms. Depth from disparity: Z = f B / (d + dx), with
the calibration that scikit-image documents (Scharstein et al., GCPR 2014).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import skimage.data

from glpn_deploy.benchmarks.claims.running import FigureOptions, run_command
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.images.options import InputSize

FOCAL_PX, OFFSET_PX, BASELINE_M = 994.978, 31.086, 0.193001


def motorcycle(source: str) -> dict[str, Any]:
    """Metrics with and without median scaling, seen at the photograph's size and near the network's own."""
    image, _, disparity = skimage.data.stereo_motorcycle()
    truth = (FOCAL_PX * BASELINE_M / (disparity + OFFSET_PX)).astype(np.float32)
    truth[~np.isfinite(truth)] = 0
    height, width = truth.shape
    sizes: dict[str, InputSize] = {"original": "own", "reduced": "auto"}
    result: dict[str, Any] = {
        "source": source,
        "depth_m": [float(truth[truth > 0].min()), float(truth.max())],
    }
    for name, size in sizes.items():
        with DepthEstimator.load(source, input_size=size) as estimator:
            depth = estimator(image).depth
            result[name] = {"size": list(estimator.network_size(height, width))}
            for scaling in (True, False):
                metrics = DepthMetrics(10.0, median_scaling=scaling)
                metrics.update(depth, truth)
                found = metrics.compute()
                key = "median_scaled" if scaling else "metric"
                result[name][key] = found["metrics"]
                if scaling:
                    result[name]["median_scale"] = found["median_scale"]
    return result


def measure(options: FigureOptions) -> dict[str, Any]:
    """Rooms as ``glpn-eval`` judges them, with and without the mirrored image, and the photograph."""
    return {
        "rooms": json.loads(run_command("eval", "demo", "--dataset", "rooms", "--baselines", "--json")),
        "rooms_flip": json.loads(run_command("eval", "demo", "--dataset", "rooms", "--flip", "--json")),
        "motorcycle": motorcycle("demo"),
    }
