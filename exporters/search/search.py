"""The search: nodes are left in a higher precision step by step, until the first graph passes every check.

Each step leaves there what the one before it left, and more:

* FP16: nothing in FP32 but nodes whose weights FP16 cannot hold; what touches values near FP16's limit;
  softmax, reductions and the head; then the most sensitive eighth, quarter and half of the groups.
* BF16: the same without the second, for its exponent is FP32's.
* INT8 and FP8: nothing left unquantized; the first convolution and the head; the most sensitive groups. Where
  the rest is FP16, the nodes whose weights it cannot hold are FP32 from the start, and the second step is
  FP16's. FP32 is then around the 8-bit products, which stay.

A step that would change nothing is left out. Where no graph passes, the answer is FP32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from glpn_deploy.atomic import staging_folder
from glpn_deploy.exporters.search.network import Network
from glpn_deploy.exporters.search.recipes import Recipe
from glpn_deploy.exporters.to_uint8 import to_uint8
from glpn_deploy.precisions import HALF_PRECISIONS
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.check import Check, CheckResult

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the groups, by falling sensitivity: with more than half in FP32, FP32 is the better graph."""

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One graph that was tried.

    Attributes:
        name: What is left in a higher precision, in words.
        groups: Groups with at least one such node, in graph order.
        nodes: Names of these nodes.
        results: What the checks found, in their order; the last is the first that failed, where one did.
        seconds: What building and checking it took [s].
        megabytes: Size of its files [10^6 bytes].
        fp32_attention: Attentions that have a product in FP32, so that TensorRT may not fuse them.
    """

    name: str
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    results: tuple[CheckResult, ...]
    seconds: float
    megabytes: float
    fp32_attention: int = 0

    @property
    def passed(self) -> bool:
        """Whether it passed every check."""
        return all(result.passed for result in self.results)

    def result(self, kind: type[Result]) -> Result | None:
        """What the check with this kind of result found; None where it was not asked."""
        return next((result for result in self.results if isinstance(result, kind)), None)

    def __str__(self) -> str:
        left = f"{len(self.nodes)} nodes kept, " if self.nodes else ""
        left += f"{self.fp32_attention} attentions in fp32, " if self.fp32_attention else ""
        return f"{self.name}: {'; '.join(map(str, self.results))}; {left}{self.megabytes:.1f} MB"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; nodes are counted, not named: the artefact names those of the graph that was chosen."""
        found: dict[str, Any] = {
            "name": self.name,
            "kept_groups": list(self.groups),
            "kept_nodes": len(self.nodes),
            "fp32_attention": self.fp32_attention,
            "seconds": round(self.seconds, 2),
            "megabytes": round(self.megabytes, 3),
            "passed": self.passed,
            "accuracy": None,
            "worst_shape": None,
        }
        for result in self.results:
            found |= result.to_dict()
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What became of a precision.

    Attributes:
        budget: What the graphs were held to.
        candidates: Every graph that was tried, in order; only the last can have passed.
        reason: Why there are no graphs, where the precision could not be made at all.
    """

    precision: str
    budget: Budget
    candidates: tuple[Candidate, ...] = ()
    images: int
    images_from: str = ""
    reason: str = ""

    @property
    def chosen(self) -> Candidate | None:
        """The graph that passed every check, or None where only FP32 does."""
        return next((candidate for candidate in self.candidates if candidate.passed), None)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {
            "precision": self.precision,
            "passed": self.chosen is not None,
            "budget": self.budget.to_dict(),
            "images": self.images,
            "images_from": self.images_from,
            "rungs": [candidate.to_dict() for candidate in self.candidates],
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step of the search leaves in a higher precision.

    Attributes:
        nodes_to_exclude: Nodes that are FP32 beside FP16 and BF16, and not quantized beside INT8 and FP8.
        fp32_nodes: Nodes that are FP32 whether they are quantized or not.
    """

    name: str
    nodes_to_exclude: frozenset[str]
    fp32_nodes: frozenset[str]


def search(network: Network, recipe: Recipe, checks: Sequence[Check], output: Path) -> tuple[Candidate, ...]:
    """Builds and checks graphs step by step, and puts the first that passes every check at ``output``.

    Args:
        checks: Asked in this order, up to the first that a graph fails: the cheap ones first.
        output: Where the chosen graph shall stand, whole or not at all; untouched where none is chosen.

    Returns:
        Every graph that was tried; the last one passed, or none did.
    """
    candidates: list[Candidate] = []
    tried: set[tuple[frozenset[str], frozenset[str]]] = set()
    for step in steps(network, recipe):
        if (step.nodes_to_exclude, step.fp32_nodes) in tried:
            continue
        tried.add((step.nodes_to_exclude, step.fp32_nodes))
        folder = network.work / f"step-{len(candidates)}"
        folder.mkdir()
        start = time.perf_counter()
        # weights beside it are found by this name
        graph = recipe.write(step.nodes_to_exclude, folder / output.name, step.fp32_nodes)
        if recipe.bytes_in:
            to_uint8(graph, graph)
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        results: list[CheckResult] = []
        for check in checks:
            results.append(check(graph, f"{recipe.precision}: {step.name}"))
            if not results[-1].passed:
                break
        left = step.nodes_to_exclude | step.fp32_nodes
        fp32 = left if recipe.precision in HALF_PRECISIONS else step.fp32_nodes
        candidate = Candidate(
            name=step.name,
            groups=tuple(group for group, nodes in network.groups.items() if not left.isdisjoint(nodes)),
            nodes=tuple(node for nodes in network.groups.values() for node in nodes if node in left),
            results=tuple(results),
            seconds=time.perf_counter() - start,
            megabytes=megabytes,
            fp32_attention=network.attentions(fp32),
        )
        candidates.append(candidate)
        if candidate.passed:
            _move(folder, output)
            break
        shutil.rmtree(folder)
    return tuple(candidates)


def steps(network: Network, recipe: Recipe) -> Iterator[Step]:
    """The steps of a precision; what costs a run of the network is asked for when a step needs it."""
    precision, fallback = recipe.precision, recipe.fallback_precision
    half = precision in HALF_PRECISIONS
    higher = "in fp32" if half else "not quantized"
    excluded, fp32 = frozenset[str](), frozenset[str]()
    name = f"everything in {precision}"
    if fallback != "fp32":
        fp32 = network.unrepresentable(fallback)
        if fp32:
            name += f" but {len(fp32)} nodes it cannot hold" if half else ""
            name += "" if half else f", with {len(fp32)} nodes in fp32 that {fallback} cannot hold"
    yield Step(name, excluded, fp32)
    if fallback == "fp16":
        fp32 |= network.overflowing()
        yield Step("what comes near fp16's limit in fp32", excluded, fp32)
    if half:
        excluded = network.reductions() | network.head()
        yield Step(f"softmax, reductions and the head {higher}", excluded, fp32)
    else:
        excluded = network.first_convolution() | network.head()
        yield Step(f"the first convolution and the head {higher}", excluded, fp32)
    # what is FP32 may be quantized, and sensitive to that
    ranked = network.ranked(
        functools.partial(recipe.write, fp32_nodes=fp32), excluded | fp32 if half else excluded
    )
    for share in SHARES:
        count = math.ceil(share * len(ranked))
        raised = frozenset(node for item in ranked[:count] for node in item.nodes)
        yield Step(f"the {count} most sensitive of {len(ranked)} groups {higher}", excluded | raised, fp32)


def _move(folder: Path, output: Path) -> None:
    """Puts a graph's files beside each other at ``output``: the data before the graph that names it."""
    with staging_folder(output) as staging:
        for path in folder.iterdir():
            shutil.move(path, staging / path.name)  # the work folder may be on another disk
        for path in sorted(staging.iterdir(), reverse=True):
            path.replace(output.parent / path.name)
