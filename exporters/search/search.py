"""The ladder: a precision is given up node by node until the first graph within the accuracy budget.

Rungs, each of which keeps what the one before it kept and more:

* FP16: nothing in FP32 but nodes whose weights FP16 cannot hold; what touches values near FP16's limit;
  softmax, reductions and the head; then the most sensitive eighth, quarter and half of the groups.
* BF16: the same without the second, for its exponent is FP32's.
* INT8 and FP8: nothing left unquantised; the first convolution and the head; the most sensitive groups. Where
  the rest is FP16, the nodes whose weights it cannot hold are FP32 from the start, and the second rung is
  FP16's. FP32 is then around the 8-bit products, which stay.

A rung that would keep what an earlier one kept is left out. Where none is within budget, the answer is FP32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.atomic import staging_folder
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.graph.graph_edit import groups as groups_of
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.search.overflow import find_peaks, overflowing_nodes
from glpn_deploy.exporters.search.recipes import LowPrecision, Make, computes_in_fp16
from glpn_deploy.exporters.search.sensitivity import SearchOptions, search
from glpn_deploy.exporters.to_half import HalfPrecision, unrepresentable
from glpn_deploy.exporters.to_int8 import Target
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.budget import DEFAULT_ABS_REL, Budget
from glpn_deploy.proof.checks.ground_truth import Accuracy, Truth
from glpn_deploy.proof.checks.images import Judge, describe_errors
from glpn_deploy.proof.checks.shapes import ShapeSweep
from glpn_deploy.proof.parity_report import ParityReport

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the groups, by falling sensitivity: with more than half in FP32, FP32 is the better graph."""

REDUCTIONS = ("Softmax", "LogSoftmax", "Attention", "LayerNormalization", "InstanceNormalization")


@dataclasses.dataclass(frozen=True)
class Rung:
    """One graph that was tried.

    Attributes:
        name: What it keeps, in words.
        kept_groups: Groups with at least one node kept in a higher precision, in graph order.
        kept: Names of these nodes.
        errors: Against the FP32 graph, over all pixels of all images.
        seconds: What building and judging it took [s].
        megabytes: Size of its files [10^6 bytes].
        passed: Whether it is within the budget, and as accurate as asked for where there is ground truth.
        accuracy: Against ground truth, where that is given and all else is passed.
        parity: Over the shape sweep, where that is asked for and the errors are within the budget.
    """

    name: str
    kept_groups: tuple[str, ...]
    kept: tuple[str, ...]
    errors: ErrorStats
    seconds: float
    megabytes: float
    passed: bool
    accuracy: Accuracy | None = None
    parity: ParityReport | None = None

    def __str__(self) -> str:
        verdict = "within budget" if self.passed else "over budget"
        truth = "" if self.accuracy is None else f", {self.accuracy}"
        shape = "" if self.parity is None else f", worst shape {self.parity.worst.stats.abs_rel:.2g}"
        return (
            f"{self.name}: {describe_errors(self.errors)}{truth}{shape}, {self.megabytes:.1f} MB, {verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; nodes are counted, not named: the artefact names those of the rung that was chosen."""
        return {
            "name": self.name,
            "kept_groups": list(self.kept_groups),
            "kept_nodes": len(self.kept),
            **self.errors.to_dict(),
            "seconds": round(self.seconds, 2),
            "megabytes": round(self.megabytes, 3),
            "passed": self.passed,
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "worst_shape": None
            if self.parity is None
            else {"name": self.parity.worst.name, **self.parity.worst.stats.to_dict()},
        }


@dataclasses.dataclass(frozen=True)
class LadderReport:
    """What climbing found.

    Attributes:
        precision: The lower precision.
        budget: What the graphs were held to.
        rungs: Every graph that was tried, in order; only the last can be within budget.
        images: How many images judged.
        images_from: Where they come from.
        reason: Why there are no graphs, where the precision could not be made at all.
    """

    precision: str
    budget: Budget
    rungs: tuple[Rung, ...]
    images: int
    images_from: str = ""
    reason: str = ""

    @property
    def chosen(self) -> Rung | None:
        """The first rung within budget, or None where only FP32 is."""
        return next((rung for rung in self.rungs if rung.passed), None)

    @property
    def passed(self) -> bool:
        """Whether a graph within budget was found."""
        return self.chosen is not None

    def __str__(self) -> str:
        if self.chosen is not None:
            return f"{self.precision}: {self.chosen}"
        if not self.rungs:
            return f"{self.precision} could not be made: {self.reason}"
        best = min(self.rungs, key=lambda rung: (rung.errors.non_finite, rung.errors.abs_rel))
        return (
            f"{self.precision}: only fp32 meets the budget ({self.budget}); the nearest of "
            f"{len(self.rungs)} graphs, {best.name}, has {describe_errors(best.errors)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {
            "precision": self.precision,
            "passed": self.passed,
            "budget": self.budget.to_dict(),
            "images": self.images,
            "images_from": self.images_from,
            "rungs": [rung.to_dict() for rung in self.rungs],
            "reason": self.reason,
        }


def climb(
    source: Path,
    target: Path,
    precision: LowPrecision,
    make: Make,
    images: Sequence[NDArray[np.uint8]],
    processor: GLPNImageProcessor,
    budget: Budget,
    work: Path,
    *,
    images_from: str = "",
    always: frozenset[str] = frozenset(),
    int8_for: Target = "tensorrt",
    judge: Judge | None = None,
    truth: Truth | None = None,
    sweep: ShapeSweep | None = None,
    options: SearchOptions = SearchOptions(),  # noqa: B008 - frozen
) -> LadderReport:
    """Builds and judges graphs rung by rung, and puts the first one within budget at ``target``.

    Args:
        source: The FP32 graph.
        target: Where the chosen graph shall stand, whole or not at all; untouched where none is chosen.
        precision: What ``make`` writes; it decides which rungs there are.
        make: Writes the graph with the nodes of the given names kept in a higher precision.
        images: ``(H, W, 3)`` uint8 images to judge by, at the size the network will meet.
        processor: The bundle's image processor.
        budget: What the graph is held to.
        work: An existing folder for everything else; the caller removes it.
        images_from: Where the images come from, for the report.
        always: Nodes kept on every rung; those whose weights the 16-bit type cannot hold
            (`to_half.unrepresentable`) are FP32 on every rung as well.
        int8_for: What INT8 is for; its rest is FP16 for TensorRT.
        judge: Knows the FP32 graph's depth on the images, where they have been run before.
        truth: Ground truth that a graph within budget must reach as well.
        sweep: Shapes at each of which it must be within budget, too.
        options: Images of the layer-wise search, and threads for all runs.

    Returns:
        Every rung that was tried; ``passed`` is False where only FP32 meets the budget.

    Raises:
        InputError: There are no images, or no such precision.
        ExportError: The FP32 graph itself gives depth that is not finite.
        GlpnError: A graph could not be made, run or written; nothing is swallowed.
    """
    if precision not in DEFAULT_ABS_REL:
        raise InputError(f"precision {precision!r}", expected=f"one of {', '.join(DEFAULT_ABS_REL)}")
    if judge is None:
        judge = Judge(source, images, processor, threads=options.threads)
    climber = _Climber(source, precision, make, images, processor, work, always, int8_for, options)
    rungs: list[Rung] = []
    tried: set[tuple[frozenset[str], frozenset[str]]] = set()
    for name, kept, full in climber.kept_sets():
        if (kept, full) in tried:
            continue
        tried.add((kept, full))
        folder = work / f"rung-{len(rungs)}"
        folder.mkdir()
        start = time.perf_counter()
        candidate = make(kept, folder / target.name, full)  # weights beside it are found by this name
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        errors = judge.errors(candidate, work, f"{precision}: {name}")
        passed, accuracy, parity = budget.allows(errors), None, None
        if passed and sweep is not None:  # before the truth, which takes longest
            parity = sweep.report(candidate, precision, budget, work)
            passed = parity.passed
        if passed and truth is not None:
            accuracy = truth.accuracy(candidate, precision, work, f"{precision}: ground truth")
            passed = accuracy.passed
        raised = kept | full
        rung = Rung(
            name,
            tuple(group for group, nodes in climber.groups.items() if not raised.isdisjoint(nodes)),
            tuple(node for nodes in climber.groups.values() for node in nodes if node in raised),
            errors,
            time.perf_counter() - start,
            megabytes,
            passed,
            accuracy,
            parity,
        )
        rungs.append(rung)
        if rung.passed:
            _move(folder, target)
            break
        shutil.rmtree(folder)
    return LadderReport(precision, budget, tuple(rungs), len(images), images_from)


@dataclasses.dataclass
class _Climber:
    """Knows which nodes each rung keeps; ranges and sensitivities are looked for when a rung needs them."""

    source: Path
    precision: LowPrecision
    make: Make
    images: Sequence[NDArray[np.uint8]]
    processor: GLPNImageProcessor
    work: Path
    always: frozenset[str]
    int8_for: Target
    options: SearchOptions

    def __post_init__(self) -> None:
        self.model = load_graph(self.source)
        for tensor in self.model.graph.initializer:  # only the nodes are looked at
            tensor.ClearField("raw_data")
        self.groups = groups_of(self.model)

    def kept_sets(self) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
        """Each rung's name, the nodes it keeps, and those that are FP32 whether they are quantised or not."""
        low, kept, full = self.precision, self.always, frozenset[str]()
        half = low == "fp16" or low == "bf16"
        higher = "in fp32" if half else "not quantised"
        type_of_rest = self._type_of_rest()
        if type_of_rest is not None:
            full = frozenset(unrepresentable(self.source, type_of_rest))
        name = f"everything in {low}"
        if half and kept | full:
            name += f" but {len(kept | full)} nodes it cannot hold"
        elif full:
            name += f", with {len(full)} nodes in fp32 that fp16 cannot hold"
        yield name, kept, full
        if type_of_rest == "fp16":
            full |= self._overflowing()
            yield "what comes near fp16's limit in fp32", kept, full
        if half:
            kept |= self._of_kinds(REDUCTIONS) | self._head()
            yield f"softmax, reductions and the head {higher}", kept, full
        else:
            kept |= self._first_convolution() | self._head()
            yield f"the first convolution and the head {higher}", kept, full
        ranked = search(
            self.source,
            functools.partial(self.make, full=full),
            self.groups,
            self.images,
            self.processor,
            self.work,
            kept=kept | full if half else kept,  # what is FP32 may be quantised, and sensitive to that
            options=self.options,
        )
        for share in SHARES:
            count = math.ceil(share * len(ranked))
            raised = frozenset(node for item in ranked[:count] for node in item.nodes)
            yield f"the {count} most sensitive of {len(ranked)} groups {higher}", kept | raised, full

    def _type_of_rest(self) -> HalfPrecision | None:
        """The 16-bit type of what is not quantised; None where that is FP32."""
        if self.precision == "bf16":
            return "bf16"
        return "fp16" if computes_in_fp16(self.precision, self.int8_for) else None

    def _overflowing(self) -> frozenset[str]:
        peaks = find_peaks(
            self.source,
            self.images,
            self.processor,
            self.work,
            threads=self.options.threads,
        )
        return overflowing_nodes(self.model, peaks)

    def _of_kinds(self, kinds: Sequence[str]) -> frozenset[str]:
        return frozenset(
            node.name
            for node in self.model.graph.node
            if node.op_type in kinds or node.op_type.startswith("Reduce")
        )

    def _head(self) -> frozenset[str]:
        return frozenset(self.groups.get("head", ()))

    def _first_convolution(self) -> frozenset[str]:
        return frozenset([node.name for node in self.model.graph.node if node.op_type == "Conv"][:1])


def _move(folder: Path, target: Path) -> None:
    """Puts a rung's files beside each other at ``target``: the data before the graph that names it."""
    with staging_folder(target) as staging:
        for path in folder.iterdir():
            shutil.move(path, staging / path.name)  # the work folder may be on another disk
        for path in sorted(staging.iterdir(), reverse=True):
            path.replace(target.parent / path.name)
