"""FP32 ONNX -> each lower precision: what its graph is written from, and with what."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

from glpn_deploy.exporters.calibration.calibration import calibrate
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.options import (
    MAX_OPSET,
    CalibrationOptions,
    HalfIo,
    Io,
    Oldest,
    Target,
    fallback_precision,
)
from glpn_deploy.exporters.to_fp8 import describe_fp8, fp8_tensors, to_fp8
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.exporters.to_int8 import describe_int8, int8_tensors, to_int8
from glpn_deploy.exporters.typed_qdq import QuantizeOptions
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.precisions import HALF_PRECISIONS, PRECISION_INFO, Precision

_INT8_OPSET = 20

_QUANTIZERS = {
    "int8": (int8_tensors, to_int8, describe_int8),
    "fp8": (fp8_tensors, to_fp8, describe_fp8),
}
"""Which tensors need ranges, what writes the graph, and what the manifest says of it."""

_TENSORRT_READS = {"8.6": 17, "10": 20, "11": MAX_OPSET}
"""The newest opset that each TensorRT reads."""


def tensorrt_for(opset: int) -> str:
    """The TensorRT that reads an opset: ``TensorRT 10 or later``."""
    return f"TensorRT {next(version for version, most in _TENSORRT_READS.items() if opset <= most)} or later"


def least_opset(precision: Precision, target: Target = "tensorrt", oldest: Oldest | None = None) -> int:
    """The first opset that a precision is written with.

    INT8 could be written with opset 17, and is for CPUs and TensorRT 8.6; its scales are FP32 there, so that
    every product gives FP32 and a cast follows it, which a strongly typed TensorRT keeps. 20 is the first
    with Gelu as one node, and TensorRT 10 reads it.
    """
    if precision == "int8" and target == "tensorrt" and oldest is None:
        return _INT8_OPSET
    return PRECISION_INFO[precision].least_opset


class Write(Protocol):
    """Writes a precision's graph."""

    def __call__(
        self, nodes_to_exclude: frozenset[str], path: Path, fp32_nodes: frozenset[str] = ...
    ) -> Path:
        """Writes the graph to a path.

        Args:
            nodes_to_exclude: Names of the nodes that are left in the higher precision: FP32 beside FP16 and
                BF16, not quantized beside INT8 and FP8.
            fp32_nodes: Names of the nodes that are FP32, quantized or not.
        """


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a precision's graph is written.

    Attributes:
        fallback_precision: What the nodes compute in that are not quantized, or all of them.
        calibration: What the manifest says of the ranges; None where there are none.
        bytes_in: Whether what is kept takes 8-bit images (`to_uint8`); ``write``, for layer-wise search too,
            writes graphs with FP32's input.
    """

    precision: Precision
    write: Write
    fallback_precision: Precision
    calibration: dict[str, Any] | None = None
    bytes_in: bool = False


def make_recipe(
    precision: Precision,
    source: Path,
    images: ImageSet,
    processor: GLPNImageProcessor,
    calibration: CalibrationOptions = CalibrationOptions(),
    target: Target = "tensorrt",
    io: Io = "fp32",
) -> Recipe:
    """How a precision's graph is written; ranges are looked for here, once.

    Args:
        source: The FP32 graph, of the precision's least opset or later.
    """
    fallback = fallback_precision(precision, target)
    half_io: HalfIo = "half" if io == "fp16" else "fp32"
    if precision in HALF_PRECISIONS:

        def write_half(
            nodes_to_exclude: frozenset[str], path: Path, fp32_nodes: frozenset[str] = frozenset()
        ) -> Path:
            return to_half(source, path, HalfOptions(precision, nodes_to_exclude | fp32_nodes, half_io))

        return Recipe(precision, write_half, fallback, bytes_in=io == "uint8")
    tensors, quantize, describe = _QUANTIZERS[precision]
    options = QuantizeOptions(target=target, io=half_io)
    ranges = calibrate(source, images.calibration, processor, tensors(source, options), calibration)

    def write(nodes_to_exclude: frozenset[str], path: Path, fp32_nodes: frozenset[str] = frozenset()) -> Path:
        chosen = dataclasses.replace(options, nodes_to_exclude=nodes_to_exclude, fp32_nodes=fp32_nodes)
        return quantize(source, path, ranges, chosen)

    about = {**ranges.to_dict(), "images_from": images.source, "recipe": describe(options)}
    if calibration.method == "percentile":
        about["percentile"] = calibration.percentile
    return Recipe(precision, write, fallback, about, io == "uint8")
