"""FP32 ONNX -> a lower precision within its accuracy budget: ranges, search, latency, and the record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.errors import BackendError, ExportError, MissingDependencyError
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.engine.explain_graphs import Compiler
from glpn_deploy.exporters.graph.graph_edit import load_graph, opset_of
from glpn_deploy.exporters.options import BuildOptions, Target
from glpn_deploy.exporters.search.network import Network
from glpn_deploy.exporters.search.recipes import least_opset, make_recipe
from glpn_deploy.exporters.search.search import SearchReport, search
from glpn_deploy.exporters.to_half import HalfOptions, to_half, unrepresentable
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.precisions import Precision
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.check import Check
from glpn_deploy.proof.checks.ground_truth import GroundTruth
from glpn_deploy.proof.checks.images import FP32Depth
from glpn_deploy.proof.checks.latency import measure_verdict
from glpn_deploy.proof.checks.shapes import ShapeErrors, ShapeSweep


@dataclasses.dataclass(frozen=True)
class Lowered:
    """What came of one precision.

    Attributes:
        report: Every graph that was tried, or why there was none.
        artefact: What the manifest says of the one within budget; None where only FP32 is.
    """

    report: SearchReport
    artefact: Artefact | None


class Lowering:
    """Makes the lower precisions of one network.

    Args:
        full: What the manifest says of the bundle's own FP32 graph.
        source: That graph, with a float32 input.
        write: Writes the FP32 graph with another opset, in the form for a target, to a path.
        images: What to calibrate and to check on.
        goldens: The bundle's goldens by name, ``(H, W, 3)`` uint8; checked with the sweep.
        processor: The bundle's image processor.
        options: Which precisions, their budgets, and what the graphs take; they have ``lower``.
        work: An existing folder for everything in between; the caller removes it.
    """

    def __init__(
        self,
        full: Artefact,
        source: Path,
        write: Callable[[int, Target, Path], Path],
        images: ImageSet,
        goldens: Mapping[str, NDArray[np.uint8]],
        processor: GLPNImageProcessor,
        options: BuildOptions,
        work: Path,
    ) -> None:
        self._reference, self._opset, self._route, self._write = source, full.opset, full.route, write
        # TensorRT's lower precisions are made of a graph in its own forms, those for CPUs of the bundle's
        assert options.lower is not None
        self._graphs: dict[tuple[int, Target], Path] = {(full.opset, "cpu"): source}
        self._images, self._goldens, self._processor = images, goldens, processor
        self.options, self._io_of, self._work = options.lower, options.io_of, work
        self._compiler = Compiler()

    def _budget(self, precision: Precision) -> Budget:
        return Budget.of(precision, self.options.max_abs_rel, self.options.max_abs_m)

    def lower(self, precision: Precision, target: Path) -> Lowered:
        """Makes one precision and puts it at ``target`` where it is within its budget.

        One that cannot be made or run is refused like one over its budget: the others do not go with it.

        Raises:
            MissingDependencyError: onnxruntime is not installed.
            WriteError: A file could not be written.
        """
        with progress.step(target.name) as step:
            lowered = self._lower(precision, target)
            chosen = lowered.report.chosen
            if chosen is not None:
                step.finish(f"{chosen.results[0]}; {chosen.megabytes:.1f} MB")
            else:
                step.fail(lowered.report.reason or "no graph is within the budget")
        return lowered

    def _lower(self, precision: Precision, target: Path) -> Lowered:
        work, purpose = self._work / precision, self.options.target_of(precision)
        work.mkdir()
        images = self._images
        report = SearchReport(
            precision=precision,
            budget=self._budget(precision),
            images=len(images.checking),
            images_from=images.source,
        )
        try:
            source = self._source(least_opset(precision, purpose, self.options.oldest), purpose)
            recipe = make_recipe(
                precision,
                source,
                images,
                self._processor,
                self.options.calibration,
                purpose,
                self._io_of(precision),
            )
            network = Network(source, images.checking, self._processor, work)
            candidates = search(network, recipe, self._checks(precision), target)
        except MissingDependencyError:
            raise
        except (ExportError, BackendError) as error:
            reason = str(error).replace(f"{self._work}/", "")  # manifests travel, folders do not
            return Lowered(dataclasses.replace(report, reason=reason), None)
        report = dataclasses.replace(report, candidates=candidates)
        if report.chosen is None:
            return Lowered(report, None)
        verdict = None
        if self.options.verdict:
            height, width = self._processor.target_size(*images.checking[0].shape[:2])
            verdict = measure_verdict(self._reference, target, precision, (1, height, width))
        graph, shapes = load_graph(target), report.chosen.result(ShapeErrors)
        artefact = Artefact(
            file=target.name,
            kind="onnx",
            precision=precision,
            route=f"{self._route} -> {precision}",
            opset=opset_of(graph),
            nodes=len(graph.graph.node),
            io=self._io_of(precision),
            data=tuple(sorted(path.name for path in target.parent.glob(f"{target.name}.data"))),
            kept=report.chosen.nodes,
            parity=None if shapes is None else shapes.report.to_dict(),
            budget=report.budget.to_dict(),
            ladder=report.to_dict(),
            calibration=recipe.calibration,
            verdict=None if verdict is None else verdict.to_dict(),
            compiled=self._compiled(precision, source, target),
        )
        return Lowered(report, artefact)

    def _compiled(self, precision: Precision, source: Path, target: Path) -> dict[str, Any] | None:
        """What the compiler for RTX cards says of a graph: FP16 beside FP32, the others beside FP16."""
        if not (
            self.options.verdict and self.options.target_of(precision) == "tensorrt" and Compiler.installed()
        ):
            return None
        other: Precision = "fp32" if precision == "fp16" else "fp16"
        beside = self._reference if other == "fp32" else target.with_name("model.fp16.onnx")
        try:
            if not beside.exists():  # not asked for, or over its budget: what it costs is all the same
                beside = self._work / "beside.fp16.onnx"
                if not beside.exists():
                    to_half(
                        source, beside, HalfOptions(fp32_nodes=frozenset(unrepresentable(source, "fp16")))
                    )
            return self._compiler.verdict(precision, target, other, beside).to_dict()
        except ExportError as error:
            reason = str(error).replace(f"{self._work}/", "")
            return {"recommended": False, "sentence": f"{precision} does not compile for RTX cards: {reason}"}

    def _checks(self, precision: Precision) -> list[Check]:
        """What a precision's graphs are asked, the quickest first; FP32 runs once for all precisions."""
        budget = self._budget(precision)
        checks: list[Check] = [functools.partial(self._depth.check, budget)]
        if self._sweep is not None:
            checks.append(functools.partial(self._sweep.check, precision, budget))
        if self._ground_truth is not None:
            checks.append(functools.partial(self._ground_truth.check, precision))
        return checks

    @functools.cached_property
    def _depth(self) -> FP32Depth:
        return FP32Depth(self._reference, self._images.checking, self._processor)

    @functools.cached_property
    def _ground_truth(self) -> GroundTruth | None:
        if self.options.ground_truth is None:
            return None
        return GroundTruth(self.options.ground_truth, self._reference, self._processor)

    @functools.cached_property
    def _sweep(self) -> ShapeSweep | None:
        if not self.options.sweep:
            return None
        return ShapeSweep(self._reference, self._processor, self._goldens)

    def _source(self, least: int, purpose: Target) -> Path:
        """The FP32 graph at the bundle's opset, or at the least one that a precision needs."""
        opset = max(self._opset, least)
        if (opset, purpose) not in self._graphs:
            path = self._work / f"fp32.{purpose}.opset{opset}.onnx"
            self._graphs[opset, purpose] = self._write(opset, purpose, path)
        return self._graphs[opset, purpose]
