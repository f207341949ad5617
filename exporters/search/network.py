"""An FP32 graph with the images that its precisions are looked for on, and what the search asks of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.topology.groups import groups
from glpn_deploy.exporters.graph.topology.kinds import node_kinds
from glpn_deploy.exporters.graph.topology.topology import Topology
from glpn_deploy.exporters.search.overflow import find_peaks, overflowing_nodes
from glpn_deploy.exporters.search.sensitivity import Sensitivity, rank_groups
from glpn_deploy.exporters.to_half import unrepresentable
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.precisions import Precision

REDUCTIONS = ("Softmax", "LayerNormalization")


class Network:
    """What is known of a network, or found out when a step of the search needs it.

    Args:
        images: ``(H, W, 3)`` uint8 images at the size that the network will meet.
        work: An existing folder for everything in between; the caller removes it.

    Attributes:
        groups: Every group of the graph with its node names, both in graph order.
    """

    def __init__(
        self, source: Path, images: Sequence[NDArray[np.uint8]], processor: GLPNImageProcessor, work: Path
    ) -> None:
        self.source, self.images, self.processor, self.work = source, images, processor, work
        self._model = load_graph(source)
        self.groups = groups(self._model)
        self._topology = Topology(self._model)

    def reductions(self) -> frozenset[str]:
        """Nodes that sum many numbers up: softmax, norms and ONNX's reductions."""
        return frozenset(
            node.name
            for node in self._model.graph.node
            if node.op_type in REDUCTIONS or node.op_type.startswith("Reduce")
        )

    def attentions(self, nodes: Collection[str]) -> int:
        """Attentions with a product among these nodes.

        Where it computes in FP32 TensorRT may not fuse that attention; softmax and norms may well be FP32
        (docs/decisions/tensorrt-graph.md).
        """
        kinds = node_kinds(self._model)
        products = {name for name in nodes if kinds.get(name) == "attention"}
        return sum(not products.isdisjoint(group) for group in self.groups.values())

    def head(self) -> frozenset[str]:
        """The nodes of the depth head."""
        return self._names(self._topology.head())

    def first_convolution(self) -> frozenset[str]:
        """The convolution of the image."""
        return self._names(self._topology.first_products())

    def _names(self, indices: Iterable[int]) -> frozenset[str]:
        return frozenset(self._topology.nodes[index].name for index in indices)

    def unrepresentable(self, precision: Precision) -> frozenset[str]:
        """Nodes whose weights a 16-bit precision cannot hold."""
        return frozenset(unrepresentable(self.source, precision))

    def overflowing(self) -> frozenset[str]:
        """Nodes that touch values near FP16's limit; runs the network."""
        return overflowing_nodes(self._model, find_peaks(self.source, self.images, self.processor, self.work))

    def ranked(
        self, write: Callable[[frozenset[str], Path], Path], excluded: Collection[str]
    ) -> list[Sensitivity]:
        """Groups by falling sensitivity, without the nodes excluded; runs the network once a group."""
        return rank_groups(
            self.source, write, self.groups, self.images, self.processor, self.work, excluded=excluded
        )
