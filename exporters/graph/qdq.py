"""Putting QuantizeLinear/DequantizeLinear pairs into an ONNX graph: 8-bit numbers, scales and nodes."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.exporters.graph.graph_edit import tensor_types

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Format:
    """An 8-bit number.

    Attributes:
        element: ONNX's element type.
        dtype: numpy's.
        low: Smallest number used; symmetric formats leave -128 out.
        high: Largest number used.
    """

    element: int
    dtype: Any
    low: float
    high: float


INT8 = Format(TensorProto.INT8, np.dtype(np.int8), -127, 127)
INT8_REDUCE_RANGE = Format(TensorProto.INT8, np.dtype(np.int8), -64, 64)
"""7 bits, as onnxruntime.quantization's ``reduce_range`` takes for weights."""
UINT8 = Format(TensorProto.UINT8, np.dtype(np.uint8), 0, 255)
FP8 = Format(TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn), -448, 448)


def round_scale(scale: Array, dtype: Any) -> Array:
    """Scales in ``dtype``, rounded up so that nothing is clipped; 1 where the scale is 0."""
    exact = np.where(scale > 0, scale, 1.0)
    rounded = exact.astype(dtype)
    up = np.nextafter(rounded, np.array(np.inf, dtype))
    result: Array = np.where(rounded.astype(np.float64) < exact, up, rounded).astype(dtype)
    return result


def activation_scale(low: float, high: float, number: Format, dtype: Any = np.float32) -> tuple[Array, int]:
    """Scale and zero point for values from ``low`` to ``high``.

    Symmetric formats: max(|low|, |high|) / number.high and 0. UINT8: (high - low) / 255 over a range that
    holds 0, and the number that stands for 0.
    """
    if number.low < 0:
        return round_scale(np.array(max(abs(low), abs(high)) / number.high), dtype), 0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = round_scale(np.array((high - low) / (number.high - number.low)), dtype)
    return scale, int(np.clip(np.rint(-low / float(scale)), number.low, number.high))


def weight_scales(weight: Array, axis: int, number: Format, dtype: Any = np.float32) -> Array:
    """One scale per output channel, (weight.shape[axis],): its largest magnitude / number.high."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return round_scale(np.abs(weight.astype(np.float64)).max(axis=others) / number.high, dtype)


def quantize_weight(weight: Array, scales: Array, axis: int, number: Format) -> Array:
    """``weight`` / scales, rounded to the nearest (ties to even) number of the format."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    scaled = weight.astype(np.float64) / scales.astype(np.float64).reshape(shape)
    if number is not FP8:
        scaled = np.rint(scaled)
    result: Array = np.clip(scaled, number.low, number.high).astype(np.float32).astype(number.dtype)
    return result


def tensor_of(name: str, values: Array, number: Format) -> TensorProto:
    """Numbers of a format as an initializer."""
    return helper.make_tensor(name, number.element, values.shape, values.tobytes(), raw=True)


class QdqWriter:
    """Changes a graph in place; nodes have to be visited in graph order.

    Args:
        model: FP32, or typed FP16 from opset 19 on, where scales take the type of what they scale.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self._types = tensor_types(model)
        self._before: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
        self._after: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
        self._pairs: dict[str, str] = {}
        self._added: dict[str, TensorProto] = {}

    def float_type(self, tensor: str) -> Any:
        """numpy's float type of a tensor of the graph."""
        return helper.tensor_dtype_to_np_dtype(self._types.get(tensor, TensorProto.FLOAT))

    def activation(
        self, node: onnx.NodeProto, index: int, limits: tuple[float, float], number: Format
    ) -> None:
        """Quantizes one input of a node; consumers of one tensor share a pair."""
        tensor = node.input[index]
        if tensor in self._pairs.values():  # the output of a node before, quantized there
            return
        if tensor not in self._pairs:
            self._before[node.name] += self._pair(tensor, limits, number)
        node.input[index] = self._pairs[tensor]

    def output(self, node: onnx.NodeProto, limits: tuple[float, float], number: Format) -> None:
        """Quantizes what a node gives, for all that take it."""
        tensor = node.output[0]
        self._after[node.name] += self._pair(tensor, limits, number)
        for other in self.model.graph.node:
            for index, name in enumerate(other.input):
                if name == tensor:
                    other.input[index] = self._pairs[tensor]

    def weight(
        self, node: onnx.NodeProto, index: int, weight: Array, axis: int, scales: Array, number: Format
    ) -> None:
        """Stores a weight as 8-bit numbers, scaled by channel, and a DequantizeLinear before the node.

        Each has a zero point of its own: where several share one tensor, OpenVINO (2026.4) does not see that
        it is zero, computes the weight anew in every run and multiplies in FP32 (glpn-nyu's architecture on
        two cores with VNNI: 841 ms instead of 441).
        """
        name = node.input[index]
        zeros = self._add(tensor_of(f"{name}/zero", np.zeros(scales.shape, number.dtype), number))
        stored = self._add(tensor_of(f"{name}/int", quantize_weight(weight, scales, axis, number), number))
        scale = self._add(numpy_helper.from_array(scales, f"{name}/scale"))
        self._before[node.name].append(self._dequantize(name, [stored, scale, zeros], axis))
        node.input[index] = f"{name}/dq"

    def bias(self, node: onnx.NodeProto, index: int, bias: Array, scales: Array) -> None:
        """Stores a bias as int32 in steps of ``scales``, as ONNX Runtime's integer convolution wants it."""
        name = node.input[index]
        values = np.rint(bias.astype(np.float64) / scales.astype(np.float64)).astype(np.int32)
        stored = self._add(numpy_helper.from_array(values, f"{name}/int"))
        scale = self._add(numpy_helper.from_array(scales, f"{name}/scale"))
        self._before[node.name].append(self._dequantize(name, [stored, scale], 0))
        node.input[index] = f"{name}/dq"

    def bias_behind(self, node: onnx.NodeProto) -> None:
        """Adds a convolution's float bias behind it, where a Relu alone takes its result.

        ONNX Runtime's optimizer makes an int32 bias of one within, counted in steps of the scales' product,
        which FP16 does not hold: a session of defaults was off by AbsRel 0.05 (INT8) and 0.35 (FP8). NVIDIA's
        compiler makes the same engine of both forms (TensorRT for RTX 1.7.1).
        """
        users = [other for other in self.model.graph.node if node.output[0] in other.input]
        if node.op_type != "Conv" or len(node.input) < 3 or [user.op_type for user in users] != ["Relu"]:
            return
        bias, result = node.input.pop(), node.output[0]
        stored = next(tensor for tensor in self.model.graph.initializer if tensor.name == bias)
        stored.dims.extend((1, 1))
        node.output[0] = f"{result}/product"
        add = helper.make_node("Add", [node.output[0], bias], [result], name=f"{node.name}/bias")
        self._after[node.name].append(add)

    def finish(self) -> onnx.ModelProto:
        """Puts the new nodes in their places and drops the weights that nothing takes any more."""
        graph = self.model.graph
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            nodes += [*self._before.get(node.name, ()), node, *self._after.get(node.name, ())]
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used] + list(self._added.values())
        rewritten = onnx.GraphProto()
        rewritten.CopyFrom(onnx.GraphProto(name=graph.name, input=graph.input, output=graph.output))
        rewritten.node.extend(nodes)
        rewritten.initializer.extend(kept)
        graph.CopyFrom(rewritten)
        return self.model

    def _add(self, tensor: TensorProto) -> str:
        self._added[tensor.name] = tensor
        return str(tensor.name)

    def _pair(self, tensor: str, limits: tuple[float, float], number: Format) -> list[onnx.NodeProto]:
        scale, zero = activation_scale(*limits, number, self.float_type(tensor))
        kind = TensorProto.DataType.Name(number.element).lower()
        zeros = self._add(tensor_of(f"zero/{kind}_{zero}", np.array(zero, number.dtype), number))
        name = self._add(numpy_helper.from_array(scale, f"{tensor}/scale"))
        quantized = f"{tensor}/q"
        quantize = helper.make_node("QuantizeLinear", [tensor, name, zeros], [quantized], name=f"{tensor}/Q")
        self._pairs[tensor] = f"{tensor}/dq"
        return [quantize, self._dequantize(tensor, [quantized, name, zeros])]

    def _dequantize(self, name: str, inputs: list[str], axis: int | None = None) -> onnx.NodeProto:
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}/dq"], name=f"{name}/DQ")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        return node
