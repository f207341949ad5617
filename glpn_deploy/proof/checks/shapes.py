"""The shape sweep as a check of a lower precision: within budget at every shape, not on average only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.precisions import Precision
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.opening import opened
from glpn_deploy.proof.parity import Batch, compare_batches, sweep_depths
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime


@dataclasses.dataclass(frozen=True)
class ShapeErrors:
    """What `ShapeSweep` found."""

    report: ParityReport

    @property
    def passed(self) -> bool:
        """Whether every shape is within the budget."""
        return self.report.passed

    def __str__(self) -> str:
        worst = self.report.worst
        error = "not finite" if worst.stats.non_finite else f"{worst.stats.abs_rel:.2g}"
        return f"worst shape {worst.name} {error}"

    def to_dict(self) -> dict[str, Any]:
        """The worst shape: the artefact has them all."""
        worst = self.report.worst
        return {"worst_shape": {"name": worst.name, **worst.stats.to_dict()}}


class ShapeSweep:
    """Holds graphs against their FP32 original as ``glpn-verify`` will.

    Args:
        goldens: Images by name that are compared as well, since ``glpn-verify`` will.
    """

    def __init__(
        self, source: Path, processor: GLPNImageProcessor, goldens: Mapping[str, NDArray[np.uint8]]
    ) -> None:
        with load_runtime("onnxruntime", source, RuntimeOptions(device="cpu")) as runtime:
            self._about = runtime.describe()
            self._batches = sweep_depths(runtime, processor)
            for name, image in goldens.items():
                pixel_values = processor.prepare(image)[None]
                self._batches += (Batch(name, pixel_values, runtime.run_unchecked(pixel_values)),)

    def check(self, precision: Precision, budget: Budget, graph: Path, _title: str = "") -> ShapeErrors:
        """The `Check` of a precision and its budget, which holds at every shape."""
        with opened(graph, precision) as runtime:
            title, shapes = f"{precision}: sweep", self._batches
            return ShapeErrors(compare_batches(runtime, shapes, self._about, budget, title, len(shapes)))
