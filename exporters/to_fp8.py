"""FP32 ONNX and calibrated ranges -> FP8 (E4M3) ONNX for Hopper, Ada, Blackwell and Thor.

Measured with the first demo checkpoint as `to_int8` was, at 96x128: AbsRel 0.0078 against FP32, where INT8
has 0.0038: three bits of digits are fewer than what 127 even steps give values that are spread like these.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import onnx

from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.graph.graph_edit import load_graph, opset_of, save_graph
from glpn_deploy.exporters.graph.qdq import FP8, Kind
from glpn_deploy.exporters.to_half import Io, require_fp32
from glpn_deploy.exporters.typed_qdq import (
    TYPED_OPSET,
    chosen_nodes,
    input_tensors,
    quantise_typed,
    require_ranges,
    set_precision,
    with_kernel,
)

_KINDS: frozenset[Kind] = frozenset({"linear", "pointwise", "convolution"})


@dataclasses.dataclass(frozen=True)
class Fp8Options:
    """What becomes FP8: convolutions and linear layers for which TensorRT has kernels.

    Attributes:
        keep: Names of nodes that are not quantised.
        full: Names of nodes that FP16 cannot hold: FP32, with FP32 scales where they are quantised.
        io: Type of input and output: ``fp32``, or ``half`` for FP16.

    Raises:
        InputError: ``io`` is neither.
    """

    keep: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()
    io: Io = "fp32"

    def __post_init__(self) -> None:
        if self.io not in get_args(Io):
            raise InputError(f"io {self.io!r}", expected="fp32 or half")


def describe(options: Fp8Options) -> dict[str, Any]:
    """What the manifest says of the recipe."""
    return {
        "target": "tensorrt",
        "quantised": sorted(_KINDS),
        "not_quantised": ["attention", "depthwise", "first", "last", "residual"],
        "activations": "float8e4m3fn, per tensor",
        "weights": "float8e4m3fn, per output channel",
        "rest": "fp16",
    }


def fp8_tensors(source: Path, options: Fp8Options = Fp8Options()) -> list[str]:
    """Names of the activations whose ranges `to_fp8` needs, in graph order.

    Raises:
        ExportError: The source cannot be read, is not FP32, or its opset has no FP8.
        InputError: A name to keep is no node of the graph.
    """
    model = load_graph(source)
    return input_tensors(model, _slots(model, source, options))


def to_fp8(source: Path, target: Path, ranges: Ranges, options: Fp8Options = Fp8Options()) -> Path:
    """Writes the FP8 form of an FP32 graph, at the source's opset; what is not FP8 is FP16.

    A scale brings the range's end to 448, the largest E4M3 number. FP8 has no zero points; ONNX asks for
    one all the same, since it names the type.

    Args:
        source: An FP32 file that `to_onnx` wrote, of opset 19 or later.
        target: Where the FP8 file shall stand; replaced whole or not at all.
        ranges: What `calibrate` found for `fp8_tensors`; min-max suits FP8, whose steps grow with
            the number, so that clipping gains nothing.
        options: What is not quantised, and what is FP32.

    Returns:
        ``target``. The same source, ranges and options give the same bytes.

    Raises:
        ExportError: The source is not an FP32 graph of ours, its opset has no FP8, a range is missing, or
            weights outside of ``full`` are beyond FP16.
        InputError: A name to keep is no node of the graph.
        WriteError: The file could not be written.
    """
    model = load_graph(source)
    slots = _slots(model, source, options)
    require_ranges(ranges, input_tensors(model, slots))
    quantise_typed(model, slots, ranges, FP8, options.io, options.full)
    set_precision(model, "fp8", "tensorrt")
    return save_graph(model, target)


def _slots(model: onnx.ModelProto, source: Path, options: Fp8Options) -> dict[str, list[int]]:
    require_fp32(model, source)
    if opset_of(model) < TYPED_OPSET:
        raise ExportError(
            f"opset {opset_of(model)} has no FP8",
            expected=f"{TYPED_OPSET} or later",
            fix="export with --opset 20, which TensorRT 10 and 11 read",
        )
    slots = chosen_nodes(model, _KINDS, options.keep)
    return {name: slots[name] for name in with_kernel(model, slots, FP8)}
