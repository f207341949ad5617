"""How far a graph's depth is from its FP32 original's, on images, run on this machine's CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.depth.error_stats import ErrorStats, error_stats
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.opening import opened
from glpn_deploy.runtimes.base import Runtime


@dataclasses.dataclass(frozen=True)
class ImageErrors:
    """What `ImageCheck` found.

    Attributes:
        errors: Against the FP32 graph, over all pixels of all images, so that large images weigh more.
    """

    errors: ErrorStats
    passed: bool

    def __str__(self) -> str:
        if self.errors.non_finite:
            return describe_errors(self.errors)
        return f"AbsRel {self.errors.abs_rel:.2g}, at most {self.errors.max_abs_m:.2g} m"

    def to_dict(self) -> dict[str, Any]:
        """The errors."""
        return self.errors.to_dict()


class FP32Depth:
    """The FP32 graph's depth on images, to hold other graphs against.

    Args:
        images: ``(H, W, 3)`` uint8 images, of any sizes; they go through ``processor``.
    """

    def __init__(
        self, source: Path, images: Sequence[NDArray[np.uint8]], processor: GLPNImageProcessor
    ) -> None:
        if not images:
            raise InputError(
                "there are no images to check on", expected="at least one", fix="name a folder of photographs"
            )
        self._images, self._processor = images, processor
        with opened(source) as runtime, progress.step("fp32 reference", len(images)) as step:
            self._depth = self._run(runtime, step)
            step.finish(f"{len(images)} images")
        bad = self._depth.size - int(np.count_nonzero(np.isfinite(self._depth)))
        if bad:
            raise ExportError(
                f"the FP32 graph gives {bad} of {self._depth.size} pixels that are not finite",
                expected="a network that works in FP32",
                fix="look at the checkpoint: no precision can mend it",
            )

    def errors(self, graph: Path, title: str = "errors") -> ErrorStats:
        """Errors of a graph, computed as its types say, over all pixels of all images."""
        with opened(graph) as runtime, progress.step(title, len(self._images)) as step:
            errors = self.errors_of(runtime, step)
            step.finish(describe_errors(errors))
        return errors

    def errors_of(self, runtime: Runtime, step: progress.Step | None = None) -> ErrorStats:
        """The same of a graph that is open already; an image is a unit of the step."""
        return error_stats(self._run(runtime, step), self._depth)

    def check(self, budget: Budget, graph: Path, title: str) -> ImageErrors:
        """The `Check` of a budget."""
        errors = self.errors(graph, title)
        return ImageErrors(errors, budget.allows(errors))

    def _run(self, runtime: Runtime, step: progress.Step | None) -> NDArray[np.float32]:
        """The depth of all pixels of all images [m]."""
        depths = []
        for image in self._images:
            depths.append(runtime.run_unchecked(self._processor.prepare(image)[None]).ravel())
            if step is not None:
                step.advance()
        return np.concatenate(depths)


def describe_errors(errors: ErrorStats) -> str:
    """One clause: how far the depth moved."""
    if errors.non_finite:
        return f"{errors.non_finite} pixels are NaN or infinite"
    return f"AbsRel {errors.abs_rel:.2g}, max {errors.max_abs_m:.2g} m, p99 {errors.p99_abs_m:.2g} m"
