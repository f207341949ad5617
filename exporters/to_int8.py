"""FP32 ONNX and calibrated ranges -> INT8 ONNX, for TensorRT or for CPUs.

What is quantized, and why, by measurement: docs/decisions/int8.md.

For CPUs ONNX Runtime fuses DequantizeLinear-Conv-QuantizeLinear into one integer convolution, which needs
UINT8 inputs, an INT32 bias and a quantized output. Without VNNI its product of UINT8 and INT8 saturates at
16 bits, so weights take 7 bits (``reduce_range``), which no CPU can saturate. So do the keys and values of
the attention's two products, which stand where a weight does; queries have 8 bits, probabilities are UINT8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph
from glpn_deploy.exporters.graph.qdq import (
    INT8,
    INT8_REDUCE_RANGE,
    UINT8,
    QdqWriter,
    activation_scale,
    weight_scales,
)
from glpn_deploy.exporters.graph.topology.kinds import Kind
from glpn_deploy.exporters.options import Target
from glpn_deploy.exporters.to_half import require_fp32
from glpn_deploy.exporters.typed_qdq import (
    QuantizeOptions,
    chosen_nodes,
    describe_recipe,
    input_tensors,
    quantize_typed,
    require_ranges,
    set_precision,
    with_kernel,
)

KINDS: dict[Target, frozenset[Kind]] = {
    "tensorrt": frozenset({"linear", "pointwise", "convolution"}),
    "cpu": frozenset({"linear", "pointwise", "convolution", "depthwise", "head", "attention"}),
}
"""The kinds of nodes that are quantized, by target."""

_INT32_ROOM = 2**30  # a bias may take half of INT32; the sum of products needs the rest


def describe_int8(options: QuantizeOptions) -> dict[str, Any]:
    """What the manifest says of the recipe."""
    if options.target == "tensorrt":
        numbers = ("int8, symmetric", "int8, symmetric")
    else:
        numbers = ("uint8, asymmetric", "7 bits, symmetric")
    return describe_recipe(options.target, KINDS[options.target], *numbers)


def int8_tensors(
    source: Path,
    options: QuantizeOptions = QuantizeOptions(),  # noqa: B008 - frozen
) -> list[str]:
    """Names of the activations whose ranges `to_int8` needs, in graph order.

    Raises:
        ExportError: The source cannot be read or is not FP32.
        InputError: A name to exclude is no node of the graph.
    """
    model = load_graph(source)
    require_fp32(model, source)
    return _tensors(model, _slots(model, options), options)


def to_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    options: QuantizeOptions = QuantizeOptions(),  # noqa: B008 - frozen
) -> Path:
    """Writes the INT8 form of an FP32 graph, at the source's opset.

    Weights are stored as 8-bit numbers with a DequantizeLinear behind them. Up to opset 18 the TensorRT
    form has FP32 scales, from 19 on FP16 ones (`typed_qdq.quantize_typed` says why).

    Args:
        source: An FP32 file that `to_onnx` wrote.
        target: Where the INT8 file shall stand; replaced whole or not at all.
        ranges: What `calibrate` found for `int8_tensors`.
        options: The recipe.

    Returns:
        ``target``. The same source, ranges and options give the same bytes.

    Raises:
        ExportError: The source is not an FP32 graph of ours, a range is missing, or weights outside of
            ``fp32_nodes`` are beyond FP16.
        InputError: A name to exclude is no node of the graph.
        WriteError: The file could not be written.
    """
    model = load_graph(source)
    require_fp32(model, source)
    slots = _slots(model, options)
    require_ranges(ranges, _tensors(model, slots, options))
    if options.target == "tensorrt":
        quantize_typed(model, slots, ranges, INT8, options)
    else:
        _quantize_for_cpu(model, slots, ranges)
    set_precision(model, "int8", options.target)
    return save_graph(model, target)


def _slots(model: onnx.ModelProto, options: QuantizeOptions) -> dict[str, list[int]]:
    slots = chosen_nodes(model, KINDS[options.target], options.nodes_to_exclude)
    return slots if options.target == "cpu" else with_kernel(model, slots, INT8)


def _tensors(model: onnx.ModelProto, slots: dict[str, list[int]], options: QuantizeOptions) -> list[str]:
    tensors = input_tensors(model, slots)
    if options.target == "cpu":
        convolutions = [n for n in model.graph.node if n.name in slots and n.op_type == "Conv"]
        tensors += [_result(model, node).output[0] for node in convolutions]
    return list(dict.fromkeys(tensors))


def _result(model: onnx.ModelProto, conv: onnx.NodeProto) -> onnx.NodeProto:
    """The node whose output the integer convolution gives: the Relu behind it, if nothing else is."""
    users = [node for node in model.graph.node if conv.output[0] in node.input]
    return users[0] if len(users) == 1 and users[0].op_type == "Relu" else conv


def _quantize_for_cpu(model: onnx.ModelProto, slots: dict[str, list[int]], ranges: Ranges) -> None:
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    plain = {node.name: list(node.input) for node in model.graph.node}
    softmaxes = {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}
    results = {n.name: _result(model, n) for n in model.graph.node if n.name in slots and n.op_type == "Conv"}
    writer = QdqWriter(model)
    for node in model.graph.node:
        if node.name not in slots:
            continue
        source, name, *rest = plain[node.name]
        if name not in weights:
            first = UINT8 if source in softmaxes else INT8
            writer.activation(node, 0, ranges.limits[source], first)
            writer.activation(node, 1, ranges.limits[name], INT8_REDUCE_RANGE)
            continue
        limits = ranges.limits[source]
        writer.activation(node, 0, limits, UINT8)
        weight = numpy_helper.to_array(weights[name])
        axis = 0 if node.op_type == "Conv" else weight.ndim - 1
        scales = weight_scales(weight, axis, INT8_REDUCE_RANGE)
        if rest:  # a bias is counted in steps of the two scales' product
            bias = numpy_helper.to_array(weights[rest[0]])
            step, _ = activation_scale(*limits, UINT8)
            scales = np.maximum(scales, np.abs(bias) / (step * _INT32_ROOM)).astype(np.float32)
            writer.bias(node, 2, bias, (scales * step).astype(np.float32))
        writer.weight(node, 1, weight, axis, scales, INT8_REDUCE_RANGE)
        if node.name in results:
            result = results[node.name]
            writer.output(result, ranges.limits[result.output[0]], UINT8)
    writer.finish()
