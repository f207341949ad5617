"""Typed 16-bit ONNX -> an FP32 graph that rounds as the 16-bit type does, and runs on any CPU.

Why: onnxruntime's CPU puts casts around FP16 nodes and takes pairs of casts out again, so that rounding
and overflow between nodes do not show; of BF16 it has no convolution at all. Here every node computes in
FP32, as GPUs accumulate, and each 16-bit result passes through Cast(16 bit) -> Cast(FP32), which rounds
to nearest even and gives infinity beyond the range. What stays hidden is the order of the sums inside
one node. Engines that fuse nodes round less often than this: the emulation errs on the strict side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph, tensor_types
from glpn_deploy.exporters.graph.half_numbers import HALF_TYPES, from_half_bits
from glpn_deploy.exporters.graph.half_plan import MOVES_ONLY

_NAMES = {int(kind): name for name, kind in HALF_TYPES.items()}


def emulate(source: Path, target: Path) -> Path:
    """Writes the FP32 graph that gives a typed graph's numbers.

    Args:
        source: A file of `to_half`, or of `to_int8` with 16-bit types in it.
        target: Where the FP32 file shall stand; replaced whole or not at all.

    Returns:
        ``target``. Its input and output are FP32 whatever the source's are. Q/DQ nodes are as they were.

    Raises:
        ExportError: The source cannot be read, is not one of ours, or has tensors of unknown type.
        WriteError: The file could not be written.
    """
    return save_graph(emulated_model(load_graph(source)), target)


def emulated_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Changes a typed model into its FP32 emulation, in place.

    Raises:
        ExportError: The type of a tensor is not known, so that its rounding would be left out.
    """
    graph = model.graph
    types = tensor_types(model)
    unknown = [name for node in graph.node for name in node.output if name and not types.get(name)]
    if unknown:
        raise ExportError(
            f"the types of {len(unknown)} tensors are unknown, such as {unknown[0]}",
            expected="ONNX's own operators in order, whose types can be inferred",
        )
    halves = {name: kind for name, kind in types.items() if kind in _NAMES}
    weights = [_widened(tensor) for tensor in graph.initializer]
    inputs = {value.name: halves[value.name] for value in graph.input if value.name in halves}
    for value in (*graph.input, *graph.output):
        if value.name in halves:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    ordered = onnx.GraphProto()
    renamed: dict[str, str] = {}
    for name, kind in inputs.items():
        renamed[name] = f"{name}/rounded"
        _round(ordered, name, kind, renamed[name])
    for original in graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _NAMES:
                attribute.i = TensorProto.FLOAT
        exact = {
            name: f"{name}/exact" for name in node.output if name in halves and node.op_type not in MOVES_ONLY
        }
        node.output[:] = [exact.get(name, name) for name in node.output]
        ordered.node.append(node)
        for name, unrounded in exact.items():
            _round(ordered, unrounded, halves[name], name)
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(weights)
    graph.node.extend(ordered.node)
    return model


def _round(graph: onnx.GraphProto, name: str, kind: int, result: str) -> None:
    """Adds the pair of casts that rounds an FP32 tensor to a 16-bit type's numbers."""
    half = f"{result}/{_NAMES[kind]}"
    graph.node.append(helper.make_node("Cast", [name], [half], name=f"{result}/Round", to=kind))
    graph.node.append(
        helper.make_node("Cast", [half], [result], name=f"{result}/Widen", to=TensorProto.FLOAT)
    )


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor in FP32 where it was in a 16-bit type, otherwise itself."""
    if tensor.data_type not in _NAMES:
        return tensor
    if tensor.raw_data:
        bits = np.frombuffer(tensor.raw_data, np.uint16)
        values = from_half_bits(bits, _NAMES[tensor.data_type]).reshape(tuple(tensor.dims))
    else:
        values = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)
