"""Layer-wise search: how far the depth moves when one group of nodes alone runs in the lower precision."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.exporters.graph.emulate import emulated_model
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.splice import Splicer
from glpn_deploy.images.loading import shrink
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.images import Judge, describe_errors, is_half, open_session

Make = Callable[[frozenset[str], Path], Path]
"""Writes the graph with the nodes of these names kept in the higher precision; returns its path."""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What the search looks at.

    Attributes:
        images: How many of the images given, spread evenly.
        long_side: Images are shrunk to this [px] first; which groups are sensitive hardly depends on it.
        threads: Threads within one operator; None leaves ONNX Runtime's default.
    """

    images: int = 2
    long_side: int = 256
    threads: int | None = None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """One group alone in the lower precision.

    Attributes:
        group: The group's name.
        nodes: Names of those of its nodes that were in the lower precision.
        errors: Against the FP32 graph.
    """

    group: str
    nodes: tuple[str, ...]
    errors: ErrorStats

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"group": self.group, "nodes": len(self.nodes), **self.errors.to_dict()}


def search(
    source: Path,
    make: Make,
    groups: Mapping[str, Sequence[str]],
    images: Sequence[NDArray[np.uint8]],
    processor: GLPNImageProcessor,
    work: Path,
    *,
    kept: Collection[str] = (),
    options: SearchOptions = SearchOptions(),
) -> list[Sensitivity]:
    """Runs the network once a group, with that group alone in the lower precision.

    The low-precision graph is made once, and each group of it spliced into the FP32 graph
    (`glpn_deploy.exporters.graph.splice`). On glpn-nyu's architecture, FP16, with the default options, one
    core spends about 1.1 s on each of 99 groups (0.1 s to open the graph, 0.5 s an image) and 4 s before
    them; making, emulating and opening a graph for each group would add 3.2 s to each.

    Args:
        source: The FP32 graph.
        make: Writes a graph; see `Make`.
        groups: Group to the names of its nodes (`graph_edit.groups`).
        images: ``(H, W, 3)`` uint8 images to judge by.
        processor: The bundle's image processor.
        work: A folder for the graphs, each of which is removed again.
        kept: Nodes that stay in the higher precision in any case; a group of such nodes only is left out.
        options: How many images, and how large.

    Returns:
        The most sensitive group first: those that give NaN or infinities, then by falling AbsRel; equals
        in the order of the graph.

    Raises:
        GlpnError: A graph could not be made or run; nothing is swallowed.
    """
    count = min(options.images, len(images))
    chosen = [
        shrink(images[i * len(images) // count], options.long_side, processor.size_divisor)
        for i in range(count)
    ]
    judge = Judge(source, chosen, processor, threads=options.threads)
    low = {name: [node for node in nodes if node not in kept] for name, nodes in groups.items()}
    low = {name: nodes for name, nodes in low.items() if nodes}
    folder = work / "search"
    folder.mkdir()
    found = []
    with progress.step("layer-wise search", len(low)) as step:
        try:
            splicer = _splicer(source, make, frozenset(kept), folder)
            for name, nodes in low.items():
                path = splicer.splice(nodes, folder / "spliced.onnx")
                session = open_session(path, options.threads, fuse=False, optimise=False)
                errors = judge.errors_of(session)
                found.append(Sensitivity(name, tuple(nodes), errors))
                step.advance(f"{name}: {describe_errors(errors)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        found.sort(key=lambda item: (-item.errors.non_finite, -item.errors.abs_rel))
        step.finish(f"most sensitive of {len(found)}: {', '.join(item.group for item in found[:3])}")
    return found


def _splicer(source: Path, make: Make, kept: frozenset[str], folder: Path) -> Splicer:
    """Makes the low-precision graph once, and lets its file go."""
    candidate = make(kept, folder / "low.onnx")
    low = load_graph(candidate)
    for path in (candidate, candidate.with_name(f"{candidate.name}.data")):
        path.unlink(missing_ok=True)
    return Splicer(load_graph(source), emulated_model(low) if is_half(low) else low, folder)
