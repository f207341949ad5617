"""FP32 ONNX -> typed FP16 or BF16 ONNX, cast where two types meet and nowhere else.

Nodes compute in 16 bits, LayerNormalization with its inner FP32 (stash_type 1). FP32 stay: what the caller
names; Resize scales; quantizing nodes; and, where the output is FP32, the one-channel tail behind the last
convolution. Why the tail, and why no tool of the field: docs/decisions/half.md.

Tiny weights round to subnormals or zero, which costs at most 3e-8 each; `unrepresentable` finds tensors that
lie down there as a whole.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import onnx
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.graph.graph_edit import (
    QUANTIZED_OPS,
    load_graph,
    opset_of,
    precision_of,
    save_graph,
    tensor_types,
)
from glpn_deploy.exporters.graph.half_numbers import HALF_TYPES, half_bits, loses_digits, overflows
from glpn_deploy.exporters.graph.half_plan import nodes_in_fp32
from glpn_deploy.exporters.options import HalfIo
from glpn_deploy.exporters.to_uint8 import takes_bytes
from glpn_deploy.precisions import PRECISION_INFO, QUANTIZED_PRECISIONS, Precision

# Slots whose type does not follow the node's: always FP32, or whatever comes.
_FP32_SLOTS = {("Resize", 1), ("Resize", 2)}
_ANY_TYPE = frozenset({"Shape", "Size"})
_ADDENDS = {("Conv", 2), ("Gemm", 2), ("LayerNormalization", 2), ("Add", 0), ("Add", 1)}


@dataclasses.dataclass(frozen=True)
class HalfOptions:
    """How the 16-bit graph is written.

    Attributes:
        precision: ``fp16`` or ``bf16``.
        fp32_nodes: Names of nodes that stay FP32.
        io: Type of input and output: ``fp32``, or ``half`` for the 16-bit type.

    Raises:
        InputError: A value is not one of these.
    """

    precision: Precision = "fp16"
    fp32_nodes: frozenset[str] = frozenset()
    io: HalfIo = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in HALF_TYPES:
            raise InputError(f"the precision is {self.precision!r}", expected=" or ".join(HALF_TYPES))
        if self.io not in get_args(HalfIo):
            raise InputError(f"io is {self.io!r}", expected="fp32 or half")


def to_half(source: Path, target: Path, options: HalfOptions = HalfOptions()) -> Path:
    """Writes the FP16 or BF16 form of an FP32 graph.

    Args:
        source: An FP32 file that `to_onnx` wrote.
        target: Where the 16-bit file shall stand; replaced whole or not at all.
        options: Type, what stays FP32, and the type of input and output.

    Returns:
        ``target``. The same source and options give the same bytes.

    Raises:
        ExportError: The source is not an FP32 graph of ours, its opset has no BF16 convolution, or
            weights are beyond the type's range.
        InputError: A name in ``fp32_nodes`` is no node of the graph.
        WriteError: The file could not be written.
    """
    model = load_graph(source)
    require_fp32(model, source)
    return save_graph(half_model(model, options), target)


def require_fp32(model: onnx.ModelProto, source: Path) -> None:
    """Checks that a graph has not been converted before.

    Raises:
        ExportError: It is in another precision already, or takes 8-bit images.
    """
    precision = precision_of(model)
    if precision != "fp32":
        done = "quantized" if precision in QUANTIZED_PRECISIONS else "converted"
        raise ExportError(
            f"{source} is already {done} ({precision})",
            expected="the FP32 graph",
            fix="take the bundle's model.onnx",
        )
    if takes_bytes(model):
        raise ExportError(
            f"{source} takes 8-bit images",
            expected="the FP32 graph with a float32 input",
            fix="write it without io=uint8, and give what comes of it to to_uint8",
        )


def half_model(model: onnx.ModelProto, options: HalfOptions) -> onnx.ModelProto:
    """Changes an FP32 model into its 16-bit form, in place; Q/DQ nodes and their scales stay FP32.

    Raises:
        ExportError: The opset has no BF16 convolution, or weights are beyond the type's range.
        InputError: A name in ``options.fp32_nodes`` is no node of the graph.
    """
    unknown = sorted(options.fp32_nodes - {node.name for node in model.graph.node})
    if unknown:
        raise InputError(f"{len(unknown)} names to be FP32 are no nodes of the graph, such as {unknown[0]}")
    _check_opset(model, options.precision)
    _Conversion(model, options).run()
    props = {entry.key: entry.value for entry in model.metadata_props} | {"precision": options.precision}
    helper.set_model_props(model, props)
    return model


def unrepresentable(source: Path, precision: Precision) -> list[str]:
    """Names of the nodes whose weights a 16-bit type cannot hold, in graph order.

    A weight is held when every value stays finite and, unless it is only added (a bias), rounding it
    costs no more than the type's digits (`half_numbers.loses_digits`). More is lost where a whole tensor
    is subnormal, as the weights behind activations of 1e3 can be. `to_half` itself refuses only the first.

    Raises:
        ExportError: The source cannot be read.
    """
    model = load_graph(source)
    floats = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    users: dict[str, list[tuple[str, str, int]]] = {}
    for node in model.graph.node:
        for slot, name in enumerate(node.input):
            if (
                name in floats
                and (node.op_type, slot) not in _FP32_SLOTS
                and node.op_type not in QUANTIZED_OPS
            ):
                users.setdefault(name, []).append((node.name, node.op_type, slot))
    found: set[str] = set()
    for name, uses in users.items():
        values = numpy_helper.to_array(floats[name])
        if overflows(values, precision):
            found.update(user for user, _, _ in uses)
        elif loses_digits(values, precision):
            found.update(user for user, op_type, slot in uses if (op_type, slot) not in _ADDENDS)
    return [node.name for node in model.graph.node if node.name in found]


def _check_opset(model: onnx.ModelProto, precision: Precision) -> None:
    least = PRECISION_INFO[precision].least_opset
    if opset_of(model) < least:
        raise ExportError(
            f"opset {opset_of(model)} has no {precision.upper()} convolution",
            expected=f"{least} or later",
            fix=f"export with --opset {least} or later",
        )


class _Conversion:
    """One pass over the nodes that gives every tensor its type, and casts only where two types meet."""

    def __init__(self, model: onnx.ModelProto, options: HalfOptions) -> None:
        self.graph, self.options = model.graph, options
        self.half = HALF_TYPES[options.precision]
        self.io = self.half if options.io == "half" else TensorProto.FLOAT
        self.floats = {name for name, kind in tensor_types(model).items() if kind == TensorProto.FLOAT}
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in self.graph.output} & self.floats
        self.ordered = onnx.GraphProto()
        self.native: dict[str, int] = {}  # the type in which a computed tensor comes
        self.uses: dict[str, dict[int, list[str]]] = {}  # weight -> type -> names of the nodes
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        fp32_output = self.io == TensorProto.FLOAT
        in_fp32 = nodes_in_fp32(self.graph, self.floats, self.options.fp32_nodes, fp32_output=fp32_output)
        for value in (*self.graph.input, *self.graph.output):
            if value.name in self.floats and value.name not in self.weights:
                value.type.tensor_type.elem_type = self.io
        self.native = {value.name: self.io for value in self.graph.input}
        weights = self._typed_weights(in_fp32)
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            for slot, name in enumerate(node.input):
                if name in self.floats and node.op_type not in _ANY_TYPE:
                    node.input[slot] = self._typed(name, self._slot_type(node, slot, in_fp32))
            if node.op_type == "LayerNormalization" and not any(
                a.name == "stash_type" for a in node.attribute
            ):
                node.attribute.append(helper.make_attribute("stash_type", TensorProto.FLOAT))
            self._place(node, TensorProto.FLOAT if node.name in in_fp32 else self.half)
        del self.graph.initializer[:], self.graph.value_info[:], self.graph.node[:]
        self.graph.initializer.extend(weights)
        self.graph.node.extend(self.ordered.node)

    def _slot_type(self, node: onnx.NodeProto, slot: int, in_fp32: set[str]) -> int:
        fp32 = node.name in in_fp32 or (node.op_type, slot) in _FP32_SLOTS
        return int(TensorProto.FLOAT if fp32 else self.half)

    def _typed_weights(self, in_fp32: set[str]) -> list[onnx.TensorProto]:
        """Every weight in the types in which it is used, in the order of the source."""
        for node in self.graph.node:
            for slot, name in enumerate(node.input):
                if name in self.weights and name in self.floats:
                    kind = self._slot_type(node, slot, in_fp32)
                    self.uses.setdefault(name, {}).setdefault(kind, []).append(node.name)
        result: list[onnx.TensorProto] = []
        beyond: dict[str, None] = {}  # a node may have more than one such weight
        for name, tensor in self.weights.items():
            uses = self.uses.get(name, {})
            if TensorProto.FLOAT in uses or self.half not in uses:
                result.append(tensor)
            if self.half in uses:
                values = numpy_helper.to_array(tensor)
                if overflows(values, self.options.precision):
                    beyond.update(dict.fromkeys(uses[self.half]))
                shape, raw = list(tensor.dims), half_bits(values, self.options.precision).tobytes()
                result.append(helper.make_tensor(self._half_name(name), self.half, shape, raw, raw=True))
        if beyond:
            largest = "65504" if self.options.precision == "fp16" else "3.39e38"
            raise ExportError(
                f"the weights of {len(beyond)} nodes overflow {self.options.precision}: {_few(list(beyond))}",
                expected=f"at most {largest}",
                fix="leave in FP32 what to_half.unrepresentable names, as glpn-export does",
            )
        return result

    def _half_name(self, weight: str) -> str:
        shared = TensorProto.FLOAT in self.uses[weight]
        return f"{weight}/{self.options.precision}" if shared else weight

    def _typed(self, name: str, kind: int) -> str:
        """The name under which a float tensor is had in a type; adds the cast on first demand."""
        if name in self.weights:
            return name if kind == TensorProto.FLOAT else self._half_name(name)
        if self.native[name] == kind:
            return name
        if (name, kind) not in self.casts:
            self.casts[name, kind] = self._cast(name, kind, f"{name}/Cast")
        return self.casts[name, kind]

    def _cast(self, name: str, kind: int, result: str) -> str:
        self.ordered.node.append(helper.make_node("Cast", [name], [result], name=f"{name}/Cast", to=kind))
        return result

    def _place(self, node: onnx.NodeProto, own: int) -> None:
        """Adds a node; where it gives a graph output in another type than asked, a cast follows it."""
        results = list(node.output)
        for slot, name in enumerate(results):
            self.native[name] = own
            if name in self.outputs and own != self.io:
                node.output[slot] = f"{name}/{'fp32' if own == TensorProto.FLOAT else self.options.precision}"
        self.ordered.node.append(node)
        for inner, name in zip(node.output, results, strict=True):
            if inner != name:
                self.native[name] = self.io
                self._cast(inner, self.io, name)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
