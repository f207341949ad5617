"""Layer-wise search: how far the depth moves when one group of nodes alone runs in the lower precision."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.exporters.graph.emulate import emulated_model
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.splice import Splicer
from glpn_deploy.images.loading import shrink
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.proof.checks.images import FP32Depth, describe_errors
from glpn_deploy.proof.checks.opening import SessionRuntime, is_half
from glpn_deploy.runtimes.ort_session import open_session

IMAGES = 2
"""How many of the images given are looked at, spread evenly."""
LONG_SIDE = 256
"""Images are shrunk to this [px] first; which groups are sensitive hardly depends on it."""


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """One group alone in the lower precision.

    Attributes:
        nodes: Names of those of its nodes that were in the lower precision.
        errors: Against the FP32 graph.
    """

    group: str
    nodes: tuple[str, ...]
    errors: ErrorStats


def rank_groups(
    source: Path,
    write: Callable[[frozenset[str], Path], Path],
    groups: Mapping[str, Sequence[str]],
    images: Sequence[NDArray[np.uint8]],
    processor: GLPNImageProcessor,
    work: Path,
    *,
    excluded: Collection[str] = (),
) -> list[Sensitivity]:
    """Runs the network once a group, with that group alone in the lower precision.

    The low-precision graph is made once, and each group of it spliced into the FP32 graph
    (`glpn_deploy.exporters.graph.splice`), in a quarter of the time that it takes to make, emulate and open a
    graph for each group (docs/decisions/int8.md).

    Args:
        write: Writes the low-precision graph, but for the nodes of the names given, to a path; returns it.
        groups: Group to the names of its nodes (`graph_edit.groups`).
        work: A folder for the graphs, each of which is removed again.
        excluded: Nodes that stay in the higher precision in any case; a group of such nodes only is left out.

    Returns:
        The most sensitive group first: those that give NaN or infinities, then by falling AbsRel; equals
        in the order of the graph.
    """
    count = min(IMAGES, len(images))
    chosen = [
        shrink(images[i * len(images) // count], LONG_SIDE, processor.size_divisor) for i in range(count)
    ]
    reference = FP32Depth(source, chosen, processor)
    low = {name: [node for node in nodes if node not in excluded] for name, nodes in groups.items()}
    low = {name: nodes for name, nodes in low.items() if nodes}
    folder = work / "search"
    folder.mkdir()
    found = []
    with progress.step("layer-wise search", len(low)) as step:
        try:
            splicer = _splicer(source, write, frozenset(excluded), folder)
            for name, nodes in low.items():
                path = splicer.splice(nodes, folder / "spliced.onnx")
                with SessionRuntime(open_session(path, as_typed=True, optimize=False)) as runtime:
                    errors = reference.errors_of(runtime)
                found.append(Sensitivity(name, tuple(nodes), errors))
                step.advance(f"{name}: {describe_errors(errors)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        found.sort(key=lambda item: (-item.errors.non_finite, -item.errors.abs_rel))
        step.finish(f"most sensitive of {len(found)}: {', '.join(item.group for item in found[:3])}")
    return found


def _splicer(
    source: Path, write: Callable[[frozenset[str], Path], Path], excluded: frozenset[str], folder: Path
) -> Splicer:
    """Makes the low-precision graph once, and lets its file go."""
    candidate = write(excluded, folder / "low.onnx")
    low = load_graph(candidate)
    for path in (candidate, candidate.with_name(f"{candidate.name}.data")):
        path.unlink(missing_ok=True)
    return Splicer(load_graph(source), emulated_model(low) if is_half(low) else low, folder)
