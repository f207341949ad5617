"""Which nodes of a graph compute in FP32 when the rest goes to 16 bits."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from glpn_deploy.exporters.graph.graph_edit import QUANTIZED_OPS

# These give back their input's numbers, so that a change of type on their way only loses digits.
MOVES_ONLY = frozenset(
    {"Concat", "Identity", "Relu", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_TAIL = frozenset(
    {
        *("Abs", "Add", "Clip", "Div", "Elu", "Exp", "Gather", "HardSigmoid", "Identity", "LeakyRelu", "Log"),
        *("Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Reshape", "Sigmoid", "Slice", "Softplus"),
        *("Sqrt", "Squeeze", "Sub", "Tanh", "Unsqueeze"),
    }
)  # one number in, one out
_OWN_TYPE = frozenset({"Cast", "ConstantOfShape", "EyeLike"})  # which an attribute says


def nodes_in_fp32(
    graph: onnx.GraphProto, floats: Collection[str], fp32_nodes: Collection[str], *, fp32_output: bool
) -> set[str]:
    """Names of the nodes that compute in FP32.

    These are those asked for, quantizing ones, those that say their own type, and two kinds for which FP32
    costs nothing: the head's chain behind the last convolution, where the output is FP32 anyway, and what
    only moves numbers from FP32 nodes to FP32 nodes.

    Args:
        graph: The graph, nodes in order.
        floats: Names of the float tensors.
        fp32_nodes: Names of the nodes that are to stay FP32.
        fp32_output: Whether the graph's output is FP32.
    """
    typed = QUANTIZED_OPS | _OWN_TYPE
    full = {node.name for node in graph.node if node.name in fp32_nodes or node.op_type in typed}
    producer: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}  # node -> the float tensors that other nodes computed for it
    for node in graph.node:
        before[node.name] = [name for name in node.input if name in producer and name in floats]
        producer.update(dict.fromkeys(node.output, node))
        for name in node.input if node.op_type != "Shape" else ():  # which takes any type
            consumers.setdefault(name, []).append(node.name)
    if fp32_output:
        for value in graph.output:
            name, readers = value.name, 0
            while name in producer and producer[name].op_type in _TAIL:
                node = producer[name]
                if len(consumers.get(name, ())) > readers or len(before[node.name]) != 1:
                    break
                full.add(node.name)
                name, readers = before[node.name][0], 1
    wanted: set[str] = set()
    for node in reversed(graph.node):
        after = [user for name in node.output for user in consumers.get(name, ())]
        if node.op_type in MOVES_ONLY and after and all(user in full or user in wanted for user in after):
            wanted.add(node.name)
    for node in graph.node:
        sources = before[node.name]
        if node.name in wanted and sources and all(producer[name].name in full for name in sources):
            full.add(node.name)
    return full
