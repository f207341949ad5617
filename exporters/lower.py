"""FP32 ONNX -> a lower precision within its accuracy budget: ranges, ladder, latency, and the record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.errors import BackendError, ExportError, InputError, MissingDependencyError
from glpn_deploy.exporters.calibration.calibration import CalibrationOptions
from glpn_deploy.exporters.calibration.image_sets import ImageSet, Where
from glpn_deploy.exporters.graph.graph_edit import load_graph, opset_of
from glpn_deploy.exporters.search.recipes import LEAST_OPSET, LowPrecision, computes_in_fp16, maker
from glpn_deploy.exporters.search.search import LadderReport, climb
from glpn_deploy.exporters.to_half import Io
from glpn_deploy.exporters.to_int8 import Target
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.ground_truth import Truth
from glpn_deploy.proof.checks.images import Judge
from glpn_deploy.proof.checks.latency import VerdictOptions, measure_verdict
from glpn_deploy.proof.checks.shapes import ShapeSweep


@dataclasses.dataclass(frozen=True)
class LowerOptions:
    """Which lower precisions a bundle gets, and what they are held to.

    Attributes:
        precisions: ``fp16``, ``bf16``, ``int8``, ``fp8``, in the order in which they are made.
        images: A folder of photographs, ``rooms``, ``random`` (noise for the ranges), or None.
        calibration: How ranges are found.
        target: What INT8 is for.
        max_abs_rel: In place of each precision's default.
        max_abs_m: Asked for beside it [m].
        truth: A data set with ground truth to be judged on as well.
        sweep: Hold every graph to its budget at every shape of the sweep as well.
        verdict: Measure the latency here, beside FP32's.
        io: Type of the graphs' input and output: ``fp32``, or ``half`` for FP16 where `io_of` says so.

    Raises:
        InputError: ``half`` is asked for, and none of the precisions has it; FP8 is asked for on CPUs; or a
            budget is not a finite number above 0.
    """

    precisions: tuple[LowPrecision, ...] = ()
    images: Where = None
    calibration: CalibrationOptions = CalibrationOptions()  # noqa: RUF009 - frozen
    target: Target = "tensorrt"
    max_abs_rel: float | None = None
    max_abs_m: float | None = None
    truth: DepthDataset | None = None
    sweep: bool = True
    verdict: bool = True
    io: Io = "fp32"

    def __post_init__(self) -> None:
        for precision in self.precisions:
            self.budget(precision)  # refuses what is none
        if self.target == "cpu" and "fp8" in self.precisions:
            raise InputError(
                "FP8 for CPUs, none of which computes in it",
                expected="the target tensorrt",
                fix="leave out --target cpu, or make FP8 in a bundle of its own",
            )
        if self.io == "half" and "half" not in map(self.io_of, self.precisions):
            raise InputError(
                "half-precision input and output, and no graph that has them",
                expected="fp16, fp8, or int8 for tensorrt among the precisions",
                fix="add --fp16, or leave out --half-io",
            )

    def io_of(self, precision: LowPrecision) -> Io:
        """Type of a precision's input and output: half where asked for, and where it can be."""
        return self.io if computes_in_fp16(precision, self.target) else "fp32"

    @property
    def ranges(self) -> int:
        """Images wanted for finding ranges."""
        return self.calibration.max_images if {"int8", "fp8"} & set(self.precisions) else 0

    def budget(self, precision: LowPrecision) -> Budget:
        """What a precision is held to."""
        return Budget.of(precision, self.max_abs_rel, self.max_abs_m)


@dataclasses.dataclass(frozen=True)
class Lowered:
    """What came of one precision.

    Attributes:
        ladder: Every graph that was tried, or why there was none.
        artefact: What the manifest says of the one within budget; None where only FP32 is.
    """

    ladder: LadderReport
    artefact: Artefact | None


class Lowering:
    """Makes the lower precisions of one network.

    Args:
        source: The bundle's own FP32 graph.
        opset: Its opset.
        write: Writes the FP32 graph with another opset to a path.
        images: What to calibrate on and to judge by.
        goldens: The bundle's goldens by name, ``(H, W, 3)`` uint8; judged with the sweep.
        processor: The bundle's image processor.
        options: Which precisions, and their budgets.
        work: An existing folder for everything in between; the caller removes it.
    """

    def __init__(
        self,
        source: Path,
        opset: int,
        write: Callable[[int, Path], Path],
        images: ImageSet,
        goldens: Mapping[str, NDArray[np.uint8]],
        processor: GLPNImageProcessor,
        options: LowerOptions,
        work: Path,
    ) -> None:
        self._graphs, self._opset, self._write = {opset: source}, opset, write
        self._judges: dict[Path, Judge] = {}
        self._images, self._goldens, self._processor = images, goldens, processor
        self.options, self._work = options, work

    def lower(self, precision: LowPrecision, target: Path) -> Lowered:
        """Makes one precision and puts it at ``target`` where it is within its budget.

        One that cannot be made or judged is refused like one over its budget: the others do not go with it.

        Raises:
            MissingDependencyError: onnxruntime is not installed.
            WriteError: A file could not be written.
        """
        work = self._work / precision
        work.mkdir()
        try:
            source, ladder, calibration = self._climb(precision, target, work)
        except MissingDependencyError:
            raise
        except (ExportError, BackendError) as error:
            budget, images = self.options.budget(precision), self._images
            reason = str(error).replace(f"{self._work}/", "")  # manifests travel, folders do not
            return Lowered(
                LadderReport(precision, budget, (), len(images.judging), images.source, reason), None
            )
        if ladder.chosen is None:
            return Lowered(ladder, None)
        verdict = None
        if self.options.verdict:
            height, width = self._processor.target_size(*self._images.judging[0].shape[:2])
            options = VerdictOptions(shape=(1, height, width))
            verdict = measure_verdict(source, target, precision, options)
        graph = load_graph(target)
        artefact = Artefact(
            file=target.name,
            kind="onnx",
            precision=precision,
            route=f"checkpoint -> onnx -> {precision}",
            opset=opset_of(graph),
            nodes=len(graph.graph.node),
            io=self.options.io_of(precision),
            data=tuple(sorted(path.name for path in target.parent.glob(f"{target.name}.data"))),
            kept=ladder.chosen.kept,
            parity=None if ladder.chosen.parity is None else ladder.chosen.parity.to_dict(),
            budget=ladder.budget.to_dict(),
            ladder=ladder.to_dict(),
            calibration=calibration,
            verdict=None if verdict is None else verdict.to_dict(),
        )
        return Lowered(ladder, artefact)

    def _climb(
        self, precision: LowPrecision, target: Path, work: Path
    ) -> tuple[Path, LadderReport, dict[str, Any] | None]:
        """The FP32 graph of a precision, what climbing found, and what the manifest says of the ranges."""
        source = self._source(LEAST_OPSET[precision])
        make, calibration = maker(
            precision,
            source,
            self._images,
            self._processor,
            self.options.calibration,
            self.options.target,
            self.options.io_of(precision),
        )
        ladder = climb(
            source,
            target,
            precision,
            make,
            self._images.judging,
            self._processor,
            self.options.budget(precision),
            work,
            images_from=self._images.source,
            int8_for=self.options.target,
            judge=self._judge(source),
            truth=self._truth,
            sweep=self._sweep,
        )
        return source, ladder, calibration

    @functools.cached_property
    def _truth(self) -> Truth | None:
        """Ground truth, where it is asked for; the FP32 graph is judged once for all precisions."""
        if self.options.truth is None:
            return None
        source = self._source(self._opset)
        return Truth(self.options.truth, source, self._processor)

    @functools.cached_property
    def _sweep(self) -> ShapeSweep | None:
        """The shape sweep, where it is asked for; the FP32 graph runs once for all precisions."""
        if not self.options.sweep:
            return None
        return ShapeSweep(self._source(self._opset), self._processor, self._goldens)

    def _source(self, least: int) -> Path:
        """The FP32 graph at the bundle's opset, or at the least one that a precision needs."""
        opset = max(self._opset, least)
        if opset not in self._graphs:
            self._graphs[opset] = self._write(opset, self._work / f"fp32.opset{opset}.onnx")
        return self._graphs[opset]

    def _judge(self, source: Path) -> Judge:
        """Holds candidates against an FP32 graph, which runs once for all precisions made of it."""
        if source not in self._judges:
            self._judges[source] = Judge(source, self._images.judging, self._processor)
        return self._judges[source]
