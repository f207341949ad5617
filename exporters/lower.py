"""FP32 ONNX -> a lower precision within its accuracy budget: ranges, ladder, latency, and the record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.exporters.budget import Budget
from glpn_deploy.exporters.calibration import CalibrationOptions, Ranges, calibrate
from glpn_deploy.exporters.graph_edit import load_graph, opset_of
from glpn_deploy.exporters.image_sets import ImageSet
from glpn_deploy.exporters.ladder import LadderReport, LowPrecision, climb
from glpn_deploy.exporters.sensitivity import Make
from glpn_deploy.exporters.shape_sweep import ShapeSweep
from glpn_deploy.exporters.to_fp8 import Fp8Options, fp8_tensors, to_fp8
from glpn_deploy.exporters.to_fp8 import describe as describe_fp8
from glpn_deploy.exporters.to_half import BF16_OPSET, HalfOptions, to_half
from glpn_deploy.exporters.to_int8 import Int8Options, Target, quantised_tensors, to_int8
from glpn_deploy.exporters.to_int8 import describe as describe_int8
from glpn_deploy.exporters.to_onnx import count_nodes
from glpn_deploy.exporters.truth import Truth
from glpn_deploy.exporters.typed_qdq import TYPED_OPSET
from glpn_deploy.exporters.verdict import Verdict, VerdictOptions, measure_verdict
from glpn_deploy.image_processing import GLPNImageProcessor
from glpn_deploy.manifest import Artefact
from glpn_deploy.progress import Progress


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
    """

    precisions: tuple[LowPrecision, ...] = ()
    images: Path | Literal["rooms", "random"] | None = None
    calibration: CalibrationOptions = CalibrationOptions()  # noqa: RUF009 - frozen
    target: Target = "tensorrt"
    max_abs_rel: float | None = None
    max_abs_m: float | None = None
    truth: DepthDataset | None = None
    sweep: bool = True
    verdict: bool = True

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
        precision: Which.
        ladder: Every graph that was tried.
        artefact: What the manifest says of the one within budget; None where only FP32 is.
        verdict: Its latency here, where it was measured.
    """

    precision: LowPrecision
    ladder: LadderReport
    artefact: Artefact | None
    verdict: Verdict | None


class Lowering:
    """Makes the lower precisions of one network.

    Args:
        write: Writes the FP32 graph with a given opset to a path.
        opset: Opset of the bundle's own FP32 graph.
        images: What to calibrate on and to judge by.
        goldens: The bundle's goldens by name, ``(H, W, 3)`` uint8; judged with the sweep.
        processor: The bundle's image processor.
        options: Which precisions, and their budgets.
        work: An existing folder for everything in between; the caller removes it.
        progress: Told of every step.
    """

    def __init__(
        self,
        write: Callable[[int, Path], Path],
        opset: int,
        images: ImageSet,
        goldens: Mapping[str, NDArray[np.uint8]],
        processor: GLPNImageProcessor,
        options: LowerOptions,
        work: Path,
        progress: Progress,
    ) -> None:
        self._write, self._opset, self._images, self._processor = write, opset, images, processor
        self._goldens = goldens
        self.options, self._work, self._progress = options, work, progress

    def lower(self, precision: LowPrecision, target: Path) -> Lowered:
        """Makes one precision and puts it at ``target`` where it is within its budget.

        Raises:
            GlpnError: It could not be made or judged; nothing stands at ``target`` then.
        """
        work = self._work / precision
        work.mkdir()
        source = self._source({"bf16": BF16_OPSET, "fp8": TYPED_OPSET}.get(precision, self._opset))
        make, calibration = self._maker(precision, source)
        ladder = climb(
            source,
            target,
            precision,
            make,
            self._images.judging,
            self._processor,
            self.options.budget(precision),
            work,
            self._progress,
            images_from=self._images.source,
            truth=self._truth,
            sweep=self._sweep,
        )
        if ladder.chosen is None:
            return Lowered(precision, ladder, None, None)
        verdict = None
        if self.options.verdict:
            height, width = self._processor.target_size(*self._images.judging[0].shape[:2])
            options = VerdictOptions(shape=(1, height, width))
            verdict = measure_verdict(source, target, precision, options, self._progress)
        artefact = Artefact(
            file=target.name,
            kind="onnx",
            precision=precision,
            route=f"checkpoint -> onnx -> {precision}",
            opset=opset_of(load_graph(target)),
            nodes=count_nodes(target),
            data=tuple(sorted(path.name for path in target.parent.glob(f"{target.name}.data"))),
            kept=ladder.chosen.kept,
            parity=None if ladder.chosen.parity is None else ladder.chosen.parity.to_dict(),
            budget=ladder.budget.to_dict(),
            ladder=ladder.to_dict(),
            calibration=calibration,
            verdict=None if verdict is None else verdict.to_dict(),
        )
        return Lowered(precision, ladder, artefact, verdict)

    @functools.cached_property
    def _truth(self) -> Truth | None:
        """Ground truth, where it is asked for; the FP32 graph is judged once for all precisions."""
        if self.options.truth is None:
            return None
        source = self._source(self._opset)
        return Truth(self.options.truth, source, self._processor, progress=self._progress)

    @functools.cached_property
    def _sweep(self) -> ShapeSweep | None:
        """The shape sweep, where it is asked for; the FP32 graph runs once for all precisions."""
        if not self.options.sweep:
            return None
        return ShapeSweep(self._source(self._opset), self._processor, self._goldens, self._progress)

    def _source(self, least: int) -> Path:
        """The FP32 graph at the bundle's opset, or at the least one that a precision needs."""
        opset = max(self._opset, least)
        path = self._work / f"fp32.opset{opset}.onnx"
        return path if path.exists() else self._write(opset, path)

    def _maker(self, precision: LowPrecision, source: Path) -> tuple[Make, dict[str, Any] | None]:
        """What writes a precision's graph with some nodes kept, and what is said of its ranges."""
        if precision == "fp16" or precision == "bf16":
            return lambda keep, path: to_half(source, path, HalfOptions(precision, keep)), None
        if precision == "int8":
            int8 = Int8Options(self.options.target)
            ranges = self._find_ranges(source, quantised_tensors(source, int8))
            recipe = describe_int8(int8)

            def make(keep: frozenset[str], path: Path) -> Path:
                return to_int8(source, path, ranges, dataclasses.replace(int8, keep=keep))
        else:
            ranges = self._find_ranges(source, fp8_tensors(source))
            recipe = describe_fp8(Fp8Options())

            def make(keep: frozenset[str], path: Path) -> Path:
                return to_fp8(source, path, ranges, Fp8Options(keep))

        return make, {**ranges.to_dict(), "images_from": self._images.source, "recipe": recipe}

    def _find_ranges(self, source: Path, tensors: list[str]) -> Ranges:
        images, calibration = self._images.calibration, self.options.calibration
        return calibrate(source, images, self._processor, tensors, calibration, self._progress)
