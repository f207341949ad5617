"""FP32 ONNX and calibrated ranges -> INT8 ONNX, for TensorRT or for CPUs.

What is quantised, by measurement with the first demo checkpoint (AbsRel against FP32 on 32 rooms after 64
calibration rooms, at 96x128 / 192x256, min-max ranges, integer arithmetic simulated exactly):

==============================================  ===============  =============================================
for TensorRT                                    AbsRel
==============================================  ===============  =============================================
everything but attention products and sums      0.0048 / 0.0049
the same, without the first convolution         0.0042 / 0.0040
the same, without the last convolution          0.0043 / 0.0043
without both: the default                       0.0038 / 0.0033  both together are 0.4 % of the arithmetic
all, without depthwise convolutions             0.0048 / 0.0048  no gain: quantised, so that what is between
                                                                 them and the 1x1 convolutions is 8 bits wide
all, with attention products                    0.0050 / 0.0054  left out
all, with residual sums                         0.0060 / 0.0057  left out
==============================================  ===============  =============================================

Methods with the default: min-max 0.0038 / 0.0033 (16 images instead of 64: 0.0040 / 0.0034), 99.999 % 0.0034
/ 0.0034, 99.99 % 0.0050 / 0.0040, entropy 0.0135 / 0.0127, 99.9 % 0.0233 / 0.0157. The tails are the
signal here, so nothing is clipped by default.

For CPUs ONNX Runtime fuses DequantizeLinear-Conv-QuantizeLinear into one integer convolution, which needs
UINT8 inputs, an INT32 bias and a quantised output. Without VNNI its product of UINT8 and INT8 saturates at
16 bits (AbsRel 0.018 instead of 0.008), so weights take 7 bits, which no CPU can saturate. Measured on an
AVX2 core without VNNI, in turns with FP32, a small network (hidden sizes 32 to 256) at 224x288
(glpn-nyu's architecture: 1.47x at 224x288, 1.42x at 480x640):

==============================================  =======  ===============
for CPUs                                        speed    AbsRel
==============================================  =======  ===============
convolutions, 1x1 convolutions, linear layers   1.45x    0.0050 / 0.0045  the default
and depthwise convolutions                      1.45x    0.0083 / 0.0058
and the first and the last                      1.51x    0.0093 / 0.0106
convolutions alone                              1.25x    0.0039 / 0.0039
==============================================  =======  ===============

onnxruntime.quantization on the same network: quantize_static with UINT8 and INT8 on the same nodes 1.42x,
INT8 and INT8 1.31x, UINT8 and UINT8 1.06x; quantize_dynamic 1.07x (linear layers) and 0.84x (all). Its
graphs are what ours are modelled on, and the oracle of the tests; it was left because of what its
calibraters hold (`calibration.calibrate`), and because it writes no FP16 around the pairs. nvidia-modelopt
calls it for the work, and wants opset 19 for FP16, which TensorRT 8.6 cannot read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnx import numpy_helper

from glpn_deploy.errors import InputError
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph
from glpn_deploy.exporters.graph.qdq import (
    INT7,
    INT8,
    UINT8,
    Kind,
    QdqWriter,
    activation_scale,
    weight_scales,
)
from glpn_deploy.exporters.to_half import Io, require_fp32
from glpn_deploy.exporters.typed_qdq import (
    chosen_nodes,
    input_tensors,
    quantise_typed,
    require_ranges,
    set_precision,
    with_kernel,
)

Target = Literal["tensorrt", "cpu"]

_INT32_ROOM = 2**30  # a bias may take half of INT32; the sum of products needs the rest


@dataclasses.dataclass(frozen=True)
class Int8Options:
    """What becomes INT8. The module's text has the measurements behind the defaults.

    Attributes:
        target: ``tensorrt``: symmetric, zero points 0, FP32 biases, FP16 for the rest. ``cpu``: ONNX
            Runtime's own form, FP32 for the rest.
        keep: Names of nodes that are not quantised.
        full: Names of nodes that FP16 cannot hold: FP32, with FP32 scales where they are quantised. Without
            effect for CPUs, whose rest is FP32.
        depthwise: Quantise depthwise convolutions; None takes the target's default (TensorRT only).
        first: Quantise the convolution of the image.
        last: Quantise the convolution that gives the depth.
        attention: Quantise the two products of attention (TensorRT only).
        residual: Quantise the inputs of the encoder's sums (TensorRT only).
        io: Type of input and output: ``fp32``, or ``half`` for FP16 (TensorRT only).

    Raises:
        InputError: There is no such target, or it has not what is asked for.
    """

    target: Target = "tensorrt"
    keep: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()
    depthwise: bool | None = None
    first: bool = False
    last: bool = False
    attention: bool = False
    residual: bool = False
    io: Io = "fp32"

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise InputError(f"the INT8 target is {self.target!r}", expected="tensorrt or cpu")
        if self.target == "cpu" and (self.attention or self.residual):
            raise InputError(
                "the cpu target does not quantise attention products or residual sums",
                fix="leave them out, or choose the target tensorrt",
            )
        if self.io not in get_args(Io) or (self.target == "cpu" and self.io != "fp32"):
            raise InputError(f"io {self.io!r} for {self.target}", expected="fp32, or half for tensorrt")

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of nodes that are quantised."""
        depthwise = self.target == "tensorrt" if self.depthwise is None else self.depthwise
        chosen: list[tuple[Kind, bool]] = [
            ("depthwise", depthwise),
            ("first", self.first),
            ("last", self.last),
            ("attention", self.attention),
            ("residual", self.residual),
        ]
        return frozenset({"linear", "pointwise", "convolution", *(kind for kind, on in chosen if on)})


def describe(options: Int8Options) -> dict[str, Any]:
    """What the manifest says of the recipe."""
    typed = options.target == "tensorrt"
    return {
        "target": options.target,
        "quantised": sorted(options.kinds),
        "not_quantised": sorted({*_ALL_KINDS} - options.kinds),
        "activations": "int8, symmetric, per tensor" if typed else "uint8, asymmetric, per tensor",
        "weights": "int8, symmetric, per output channel"
        if typed
        else "7 bits, symmetric, per output channel",
        "rest": "fp16" if typed else "fp32",
    }


_ALL_KINDS = get_args(Kind)


def quantised_tensors(source: Path, options: Int8Options = Int8Options()) -> list[str]:
    """Names of the activations whose ranges `to_int8` needs, in graph order.

    Raises:
        ExportError: The source cannot be read or is not FP32.
        InputError: A name to keep is no node of the graph.
    """
    model = load_graph(source)
    require_fp32(model, source)
    return _tensors(model, _slots(model, options), options)


def to_int8(source: Path, target: Path, ranges: Ranges, options: Int8Options = Int8Options()) -> Path:
    """Writes the INT8 form of an FP32 graph, at the source's opset.

    Weights are stored as 8-bit numbers with a DequantizeLinear behind them. Up to opset 18 the TensorRT
    form has FP32 scales, from 19 on FP16 ones (`typed_qdq.quantise_typed` says why).

    Args:
        source: An FP32 file that `to_onnx` wrote.
        target: Where the INT8 file shall stand; replaced whole or not at all.
        ranges: What `calibrate` found for `quantised_tensors`.
        options: The recipe.

    Returns:
        ``target``. The same source, ranges and options give the same bytes.

    Raises:
        ExportError: The source is not an FP32 graph of ours, a range is missing, or weights outside of
            ``full`` are beyond FP16.
        InputError: A name to keep is no node of the graph.
        WriteError: The file could not be written.
    """
    model = load_graph(source)
    require_fp32(model, source)
    slots = _slots(model, options)
    require_ranges(ranges, _tensors(model, slots, options))
    if options.target == "tensorrt":
        quantise_typed(model, slots, ranges, INT8, options.io, options.full)
    else:
        _quantise_for_cpu(model, slots, ranges)
    set_precision(model, "int8", options.target)
    return save_graph(model, target)


def _slots(model: onnx.ModelProto, options: Int8Options) -> dict[str, list[int]]:
    slots = chosen_nodes(model, options.kinds, options.keep)
    if options.target == "cpu":
        return slots
    return {name: slots[name] for name in with_kernel(model, slots, INT8)}


def _tensors(model: onnx.ModelProto, slots: dict[str, list[int]], options: Int8Options) -> list[str]:
    tensors = input_tensors(model, slots)
    if options.target == "cpu":
        convolutions = [n for n in model.graph.node if n.name in slots and n.op_type == "Conv"]
        tensors += [_result(model, node).output[0] for node in convolutions]
    return list(dict.fromkeys(tensors))


def _result(model: onnx.ModelProto, conv: onnx.NodeProto) -> onnx.NodeProto:
    """The node whose output the integer convolution gives: the Relu behind it, if nothing else is."""
    users = [node for node in model.graph.node if conv.output[0] in node.input]
    return users[0] if len(users) == 1 and users[0].op_type == "Relu" else conv


def _quantise_for_cpu(model: onnx.ModelProto, slots: dict[str, list[int]], ranges: Ranges) -> None:
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    plain = {node.name: list(node.input) for node in model.graph.node}
    results = {n.name: _result(model, n) for n in model.graph.node if n.name in slots and n.op_type == "Conv"}
    writer = QdqWriter(model)
    for node in model.graph.node:
        if node.name not in slots:
            continue
        source, name, *rest = plain[node.name]
        limits = ranges.limits[source]
        writer.activation(node, 0, limits, UINT8)
        weight = numpy_helper.to_array(weights[name])
        axis = 0 if node.op_type == "Conv" else weight.ndim - 1
        scales = weight_scales(weight, axis, INT7)
        if rest:  # a bias is counted in steps of the two scales' product
            bias = numpy_helper.to_array(weights[rest[0]])
            step, _ = activation_scale(*limits, UINT8)
            scales = np.maximum(scales, np.abs(bias) / (step * _INT32_ROOM)).astype(np.float32)
            writer.bias(node, 2, bias, (scales * step).astype(np.float32))
        writer.weight(node, 1, weight, axis, scales, INT7)
        if node.name in results:
            result = results[node.name]
            writer.output(result, ranges.limits[result.output[0]], UINT8)
    writer.finish()
