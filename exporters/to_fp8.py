"""FP32 ONNX and calibrated ranges -> FP8 (E4M3) ONNX for Hopper, Ada, Blackwell and Thor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.graph.graph_edit import load_graph, opset_of, save_graph
from glpn_deploy.exporters.graph.qdq import FP8
from glpn_deploy.exporters.graph.topology.kinds import Kind
from glpn_deploy.exporters.to_half import require_fp32
from glpn_deploy.exporters.typed_qdq import (
    QuantizeOptions,
    chosen_nodes,
    describe_recipe,
    input_tensors,
    quantize_typed,
    set_precision,
    with_kernel,
)
from glpn_deploy.precisions import PRECISION_INFO

_KINDS: frozenset[Kind] = frozenset({"linear", "pointwise", "convolution"})


def describe_fp8(options: QuantizeOptions) -> dict[str, Any]:
    """What the manifest says of the recipe."""
    return describe_recipe(options.target, _KINDS, "float8e4m3fn", "float8e4m3fn")


def fp8_tensors(
    source: Path,
    options: QuantizeOptions = QuantizeOptions(),  # noqa: B008 - frozen
) -> list[str]:
    """Names of the activations whose ranges `to_fp8` needs, in graph order.

    Raises:
        ExportError: The source cannot be read, is not FP32, or its opset has no FP8.
        InputError: A name to exclude is no node of the graph.
    """
    model = load_graph(source)
    return input_tensors(model, _slots(model, source, options))


def to_fp8(
    source: Path,
    target: Path,
    ranges: Ranges,
    options: QuantizeOptions = QuantizeOptions(),  # noqa: B008 - frozen
) -> Path:
    """Writes the FP8 form of an FP32 graph, at the source's opset; what is not FP8 is FP16.

    A scale brings the range's end to 448, the largest E4M3 number. FP8 has no zero points; ONNX asks for
    one all the same, since it names the type.

    Args:
        source: An FP32 file that `to_onnx` wrote, of opset 19 or later.
        target: Where the FP8 file shall stand; replaced whole or not at all.
        ranges: What `calibrate` found for `fp8_tensors`; min-max suits FP8, whose steps grow with
            the number, so that clipping gains nothing.
        options: What is not quantized, and what is FP32; for TensorRT.

    Returns:
        ``target``. The same source, ranges and options give the same bytes.

    Raises:
        ExportError: The source is not an FP32 graph of ours, its opset has no FP8, a range is missing, or
            weights outside of ``fp32_nodes`` are beyond FP16.
        InputError: A name to exclude is no node of the graph.
        WriteError: The file could not be written.
    """
    model = load_graph(source)
    quantize_typed(model, _slots(model, source, options), ranges, FP8, options)
    set_precision(model, "fp8", "tensorrt")
    return save_graph(model, target)


def _slots(model: onnx.ModelProto, source: Path, options: QuantizeOptions) -> dict[str, list[int]]:
    require_fp32(model, source)
    least = PRECISION_INFO["fp8"].least_opset
    if opset_of(model) < least:
        raise ExportError(
            f"opset {opset_of(model)} has no FP8",
            expected=f"{least} or later",
            fix="export with --opset 20, which TensorRT 10 and 11 read",
        )
    return with_kernel(model, chosen_nodes(model, _KINDS, options.nodes_to_exclude), FP8)
