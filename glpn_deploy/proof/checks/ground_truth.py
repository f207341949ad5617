"""Ground truth as the second judge of a lower precision: accuracy beside the FP32 graph's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnxruntime as ort

from glpn_deploy import progress
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.proof.checks.images import open_judged, open_session, run_image

LARGEST_DROP = {"fp16": 0.001, "bf16": 0.005, "int8": 0.01, "fp8": 0.02}
"""How much of delta1 a precision may lose against ground truth."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What a graph reaches on a data set, beside its FP32 original.

    Attributes:
        dataset: The data set's name.
        images: How many of its images count.
        delta1: Share of pixels within 25 % of the truth, by image and averaged.
        abs_rel: Mean |depth - truth| / truth, likewise.
        delta1_fp32: The FP32 graph's delta1.
        abs_rel_fp32: The FP32 graph's AbsRel.
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
        return f"delta1 {self.delta1:.4f} (fp32 {self.delta1_fp32:.4f}), AbsRel {self.abs_rel:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {**dataclasses.asdict(self), "passed": self.passed}


class Truth:
    """A data set that graphs are judged on.

    Args:
        dataset: The samples; its ``max_depth`` and ``crop`` are the protocol.
        source: The FP32 graph, which is judged first.
        processor: The bundle's image processor.
        threads: Threads within one operator; None leaves ONNX Runtime's default.

    Raises:
        DatasetError: A sample cannot be read.
        InputError: No sample has a valid pixel.
    """

    def __init__(
        self,
        dataset: DepthDataset,
        source: Path,
        processor: GLPNImageProcessor,
        *,
        threads: int | None = None,
    ) -> None:
        self._dataset, self._processor, self._threads = dataset, processor, threads
        self._fp32 = self._metrics(open_session(source, threads), "fp32 on ground truth")

    def accuracy(
        self,
        candidate: Path,
        precision: str,
        work: Path,
        title: str = "ground truth",
    ) -> Accuracy:
        """Judges a graph, computed as its types say (`glpn_deploy.proof.checks.images.open_judged`).

        Args:
            candidate: The graph.
            precision: What it is: that decides how much of delta1 it may lose.
            work: A folder for what it takes to run it; left as it was.
            title: The step's title.
        """
        found = self._metrics(open_judged(candidate, work, self._threads), title)
        return Accuracy(
            self._dataset.name,
            found["images"],
            found["metrics"]["delta1"],
            found["metrics"]["abs_rel"],
            self._fp32["metrics"]["delta1"],
            self._fp32["metrics"]["abs_rel"],
            LARGEST_DROP[precision],
        )

    def _metrics(self, session: ort.InferenceSession, title: str) -> dict[str, Any]:
        metrics = DepthMetrics(self._dataset.max_depth, crop=self._dataset.crop)
        with progress.step(title, len(self._dataset)) as step:
            for index in range(len(self._dataset)):
                sample = self._dataset[index]
                depth = run_image(session, self._processor, load_image(sample.image))
                metrics.update(resize_bicubic(depth, sample.depth.shape), sample.depth)
                step.advance(sample.name)
            found = metrics.compute()
            step.finish(f"delta1 {found['metrics']['delta1']:.4f}, {found['images']} images")
        return found
