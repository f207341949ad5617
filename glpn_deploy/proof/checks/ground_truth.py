"""Ground truth as a check of a lower precision: accuracy beside the FP32 graph's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.precisions import PRECISION_INFO, Precision
from glpn_deploy.proof.checks.opening import opened


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What a graph reaches on a data set, beside its FP32 original.

    Attributes:
        delta1: Share of pixels within 25 % of the truth, by image and averaged.
        abs_rel: Mean |depth - truth| / truth, likewise.
        largest_drop: How much of delta1 the precision may lose.
    """

    dataset: str
    images: int
    delta1: float
    abs_rel: float
    delta1_fp32: float
    abs_rel_fp32: float
    largest_drop: float

    @property
    def passed(self) -> bool:
        """Whether no more of delta1 is lost than allowed."""
        return self.delta1_fp32 - self.delta1 <= self.largest_drop

    def __str__(self) -> str:
        return f"delta1 {self.delta1:.4f} (fp32 {self.delta1_fp32:.4f})"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {"accuracy": {**dataclasses.asdict(self), "passed": self.passed}}


class GroundTruth:
    """A data set that graphs are held to.

    Args:
        dataset: The samples; its ``max_depth`` and ``crop`` are the protocol.
        source: The FP32 graph, which is run first.
    """

    def __init__(self, dataset: DepthDataset, source: Path, processor: GLPNImageProcessor) -> None:
        self._dataset, self._processor = dataset, processor
        self._fp32 = self._metrics(source, "fp32 on ground truth")

    def check(self, precision: Precision, graph: Path, _title: str = "") -> Accuracy:
        """The `Check` of a precision, which decides how much of delta1 may be lost."""
        found = self._metrics(graph, f"{precision}: ground truth")
        return Accuracy(
            dataset=self._dataset.name,
            images=found["images"],
            delta1=found["metrics"]["delta1"],
            abs_rel=found["metrics"]["abs_rel"],
            delta1_fp32=self._fp32["metrics"]["delta1"],
            abs_rel_fp32=self._fp32["metrics"]["abs_rel"],
            largest_drop=PRECISION_INFO[precision].max_delta1_drop or 0.0,
        )

    def _metrics(self, graph: Path, title: str) -> dict[str, Any]:
        metrics = DepthMetrics(self._dataset.max_depth, crop=self._dataset.crop)
        with opened(graph) as runtime, progress.step(title, len(self._dataset)) as step:
            for index in range(len(self._dataset)):
                sample = self._dataset[index]
                depth = runtime.run_unchecked(self._processor.prepare(load_image(sample.image))[None])[0]
                metrics.update(resize_bicubic(depth, sample.depth.shape), sample.depth)
                step.advance(sample.name)
            found = metrics.compute()
            step.finish(f"delta1 {found['metrics']['delta1']:.4f}, {found['images']} images")
        return found
