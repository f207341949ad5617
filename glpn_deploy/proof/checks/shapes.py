"""The shape sweep as a judge of a lower precision: within budget at every shape, not on average only."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.artefact_runs import open_artefact
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity import Batch, judge_in_step, sweep_depths
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.runtimes.base import Precision, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime

_ON_CPU = RuntimeOptions(device="cpu")


class ShapeSweep:
    """Holds graphs against their FP32 original as ``glpn-verify`` will.

    Args:
        source: The FP32 graph.
        processor: The bundle's image processor.
        goldens: Images by name that are judged as well, since ``glpn-verify`` will.

    Raises:
        GlpnError: The FP32 graph cannot be run.
    """

    def __init__(
        self,
        source: Path,
        processor: GLPNImageProcessor,
        goldens: Mapping[str, NDArray[np.uint8]],
    ) -> None:
        with load_runtime("onnxruntime", source, _ON_CPU) as runtime:
            self._about = runtime.describe()
            self._batches = sweep_depths(runtime, processor)
            for name, image in goldens.items():
                pixel_values = processor.prepare(image)[None]
                self._batches += (Batch(name, pixel_values, runtime.run(pixel_values)),)

    def report(
        self,
        candidate: Path,
        precision: Precision,
        budget: Budget,
        work: Path,
    ) -> ParityReport:
        """The candidate over the whole sweep.

        Args:
            candidate: The graph.
            precision: What it is.
            budget: What it is held to at every shape.
            work: A folder for what it takes to run it; left as it was.

        Raises:
            BackendError: It cannot be run here.
        """
        with tempfile.TemporaryDirectory(dir=work) as folder:
            run = open_artefact(candidate, precision, _ON_CPU, "cpu", Path(folder))
            if isinstance(run, str):
                raise BackendError(f"the {precision} graph cannot be run here: {run}")
            with run.runtime as runtime:
                title, shapes = f"{precision}: sweep", self._batches
                return judge_in_step(title, len(shapes), runtime, shapes, self._about, budget)
