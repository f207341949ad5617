"""What each node is that can be computed in 8 bits."""

from __future__ import annotations

from typing import Literal

import onnx
from onnx import helper

from glpn_deploy.exporters.graph.topology.topology import Topology

Kind = Literal[
    "linear", "pointwise", "convolution", "depthwise", "first", "head", "last", "attention", "residual"
]


def node_kinds(model: onnx.ModelProto) -> dict[str, Kind]:
    """What each node that can be computed in 8 bits is, by name and in graph order.

    ``first`` is the convolution of the image, ``head`` one at the depth's size, ``last`` what gives the
    depth (the whole head where that computes pixels as channels), ``linear`` a product with a weight,
    ``attention`` a product of two activations, ``residual`` a sum that closes a branch.
    """
    topology = Topology(model)
    first, last, head = topology.first_products(), topology.last_products(), topology.head()
    sums = {index for index, _ in topology.residual_branches()}
    kinds: dict[str, Kind] = {}
    for index, node in enumerate(topology.nodes):
        if node.op_type == "Conv" and topology.is_product(index):
            if index in first:
                kinds[node.name] = "first"
            elif index in last:
                kinds[node.name] = "last"
            else:
                kinds[node.name] = "head" if index in head else _inner_kind(node)
        elif node.op_type == "MatMul":
            kinds[node.name] = "linear" if topology.is_product(index) else "attention"
        elif index in sums:
            kinds[node.name] = "residual"
    return kinds


def _inner_kind(conv: onnx.NodeProto) -> Kind:
    attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    if attributes.get("group", 1) > 1:
        return "depthwise"
    return "pointwise" if set(attributes.get("kernel_shape", [])) == {1} else "convolution"
