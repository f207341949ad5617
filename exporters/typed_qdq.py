"""Quantizing a graph for TensorRT: Q/DQ in front of the products, the rest in FP16 as far as it can be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

import onnx
from onnx import helper, numpy_helper

from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.graph.graph_edit import opset_of
from glpn_deploy.exporters.graph.qdq import FP8, Format, QdqWriter, weight_scales
from glpn_deploy.exporters.graph.topology.kinds import Kind, node_kinds
from glpn_deploy.exporters.options import HalfIo, Target
from glpn_deploy.exporters.to_half import HalfOptions, half_model

TYPED_OPSET = 19
"""The first opset whose QuantizeLinear takes FP16."""
_NARROW = 16  # channels; below, TensorRT has few 8-bit convolutions
_LARGEST_FP8_KERNEL = 32  # taps


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What is quantized, and what the rest computes in.

    Attributes:
        target: ``tensorrt``: symmetric, zero points 0, FP32 biases, FP16 for the rest. ``cpu`` (INT8 only):
            ONNX Runtime's own form, FP32 for the rest.
        nodes_to_exclude: Names of nodes that are not quantized.
        fp32_nodes: Names of nodes that FP16 cannot hold: FP32, with FP32 scales where they are quantized.
            Without effect for CPUs, whose rest is FP32.
        io: Type of input and output: ``fp32``, or ``half`` for FP16 (TensorRT only).

    Raises:
        InputError: There is no such target, or it has no such type.
    """

    target: Target = "tensorrt"
    nodes_to_exclude: frozenset[str] = frozenset()
    fp32_nodes: frozenset[str] = frozenset()
    io: HalfIo = "fp32"

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise InputError(f"the target is {self.target!r}", expected="tensorrt or cpu")
        if self.io not in get_args(HalfIo) or (self.target == "cpu" and self.io != "fp32"):
            raise InputError(f"io is {self.io!r} for {self.target}", expected="fp32, or half for tensorrt")


def describe_recipe(target: Target, kinds: frozenset[Kind], activations: str, weights: str) -> dict[str, Any]:
    """What the manifest says of a recipe."""
    return {
        "target": target,
        "quantised": sorted(kinds),
        "not_quantised": sorted({*get_args(Kind)} - kinds),
        "activations": f"{activations}, per tensor",
        "weights": f"{weights}, per output channel",
        "rest": "fp16" if target == "tensorrt" else "fp32",
    }


def chosen_nodes(
    model: onnx.ModelProto, kinds: Collection[Kind], nodes_to_exclude: Collection[str]
) -> dict[str, list[int]]:
    """Names of the nodes of the given kinds and which of their inputs are activations, in graph order.

    Raises:
        InputError: A name in ``nodes_to_exclude`` is no node of the graph.
    """
    nodes = {node.name: node for node in model.graph.node}
    unknown = sorted(set(nodes_to_exclude) - nodes.keys())
    if unknown:
        raise InputError(f"{len(unknown)} names to exclude are no nodes of the graph, such as {unknown[0]}")
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        name: [slot for slot, tensor in enumerate(nodes[name].input) if tensor not in weights]
        for name, kind in node_kinds(model).items()
        if kind in kinds and name not in nodes_to_exclude
    }


def with_kernel(
    model: onnx.ModelProto, slots: Mapping[str, list[int]], number: Format
) -> dict[str, list[int]]:
    """Of the nodes given, those for which TensorRT has an 8-bit kernel.

    Its convolutions want 16 channels in and out (of a group); INT8 ones also take 8 on one side, or
    depthwise kernels of 3x3 and more; FP8 ones have at most 32 taps. So says nvidia-modelopt
    (find_nodes_from_convs_to_exclude, December 2025), which leaves the others alone too: pairs around
    them only cost time.
    """
    nodes = {node.name: node for node in model.graph.node}
    dims = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return {
        name: taken
        for name, taken in slots.items()
        if nodes[name].op_type != "Conv" or _conv_has_kernel(nodes[name], dims[nodes[name].input[1]], number)
    }


def _conv_has_kernel(node: onnx.NodeProto, weight: list[int], number: Format) -> bool:
    out, into, *kernel = weight
    if out >= _NARROW and into >= _NARROW:
        return number is not FP8 or math.prod(kernel) <= _LARGEST_FP8_KERNEL
    if number is FP8:
        return False
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if group > 1:
        return out % 8 == 0 and min(kernel) >= 3
    return (out % 8 == 0 or into % 8 == 0) and max(out, into) >= _NARROW and len(set(kernel)) == 1


def input_tensors(model: onnx.ModelProto, slots: Mapping[str, list[int]]) -> list[str]:
    """Names of the activations that the nodes take, each once, in graph order."""
    nodes = {node.name: node for node in model.graph.node}
    return list(dict.fromkeys(nodes[name].input[slot] for name, taken in slots.items() for slot in taken))


def require_ranges(ranges: Ranges, tensors: Iterable[str]) -> None:
    """Refuses ranges that lack a tensor.

    Raises:
        ExportError: One is missing; the message names it.
    """
    missing = [name for name in tensors if name not in ranges.limits]
    if missing:
        raise ExportError(
            f"the calibration has no range for {missing[0]} ({len(missing)} tensors are missing)",
            fix="calibrate the same graph with the same options",
        )


def quantize_typed(
    model: onnx.ModelProto,
    slots: Mapping[str, list[int]],
    ranges: Ranges,
    number: Format,
    options: QuantizeOptions,
) -> onnx.ModelProto:
    """Changes an FP32 graph, in place: the nodes named in 8 bits, all others in FP16.

    Up to opset 18 QuantizeLinear and DequantizeLinear take FP32 only. There the nodes that they surround
    are FP32 too, so that DequantizeLinear stands right before its convolution or product, the pattern
    that every TensorRT fuses; the casts are before QuantizeLinear and behind the node. From opset 19 on
    the pairs are FP16 like the rest, with FP16 scales and no casts, which is what nvidia-modelopt writes
    (it raises the opset to 19 for it).

    Up to opset 18 ONNX Runtime's CPU has to compute such a graph pair by pair (session.disable_quant_qdq =
    1). Left to itself, 1.32 saturates INT8 products where there is no VNNI (AbsRel 0.012, not 0.004;
    docs/decisions/int8.md). From opset 19 on a session of defaults is right (`QdqWriter.bias_behind`).

    Args:
        model: The graph.
        slots: Nodes to quantize, and which of their inputs are activations (`chosen_nodes`).
        ranges: Limits of all those activations.
        number: INT8 or FP8.
        options: Which nodes are FP32, and the type of input and output.

    Raises:
        ExportError: A range is missing, or weights of nodes that are not in ``fp32_nodes`` are beyond FP16.
        InputError: A name in ``fp32_nodes`` is no node of the graph.
    """
    require_ranges(ranges, input_tensors(model, slots))
    taken = {weight for node in model.graph.node if node.name in slots for weight in node.input[1:2]}
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in taken}
    plain = {node.name: list(node.input) for node in model.graph.node if node.name in slots}
    fp32_nodes = options.fp32_nodes
    if opset_of(model) < TYPED_OPSET:
        fp32_nodes |= frozenset(slots)
    half_model(model, HalfOptions(fp32_nodes=fp32_nodes, io=options.io))
    writer = QdqWriter(model)
    for node in model.graph.node:
        for slot in slots.get(node.name, ()):
            writer.activation(node, slot, ranges.limits[plain[node.name][slot]], number)
        if node.name in slots and plain[node.name][1] in weights:
            weight = weights[plain[node.name][1]]
            axis = 0 if node.op_type == "Conv" else weight.ndim - 1
            scales = weight_scales(weight, axis, number, writer.float_type(node.input[1]))
            writer.weight(node, 1, weight, axis, scales, number)
            if opset_of(model) >= TYPED_OPSET:
                writer.bias_behind(node)
    return writer.finish()


def set_precision(model: onnx.ModelProto, precision: str, target: str) -> None:
    """Says in the metadata what the graph computes in and what it is for: runtimes go by it."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, props | {"precision": precision, "target": target})
