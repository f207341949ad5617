"""FP32 ONNX -> each lower precision: what its graph is written from, with what, and of which opset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, Protocol

from glpn_deploy.exporters.calibration.calibration import CalibrationOptions, Ranges, calibrate
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.to_fp8 import Fp8Options, fp8_tensors, to_fp8
from glpn_deploy.exporters.to_fp8 import describe as describe_fp8
from glpn_deploy.exporters.to_half import BF16_OPSET, HalfOptions, Io, to_half
from glpn_deploy.exporters.to_int8 import Int8Options, Target, quantised_tensors, to_int8
from glpn_deploy.exporters.to_int8 import describe as describe_int8
from glpn_deploy.exporters.to_onnx import MAX_OPSET, MIN_OPSET
from glpn_deploy.exporters.typed_qdq import TYPED_OPSET
from glpn_deploy.images.processing import GLPNImageProcessor

LowPrecision = Literal["fp16", "bf16", "int8", "fp8"]

LEAST_OPSET: dict[LowPrecision, int] = {
    "fp16": MIN_OPSET,
    "bf16": BF16_OPSET,
    "int8": MIN_OPSET,
    "fp8": TYPED_OPSET,
}
"""The first opset that can write a precision; the FP32 graph is written with it for that precision."""

_TENSORRT_READS = {"8.6": 17, "10": 20, "11": MAX_OPSET}
"""The newest opset that each TensorRT reads."""


def tensorrt_for(opset: int) -> str:
    """The TensorRT that reads an opset: ``TensorRT 10 or later``."""
    return f"TensorRT {next(version for version, most in _TENSORRT_READS.items() if opset <= most)} or later"


class Make(Protocol):
    """Writes a precision's graph."""

    def __call__(self, keep: frozenset[str], path: Path, full: frozenset[str] = ...) -> Path:
        """Writes the graph to a path.

        Args:
            keep: Names of the nodes kept in the higher precision: FP32 beside FP16 and BF16, not quantised
                beside INT8 and FP8.
            path: Where it shall stand.
            full: Names of the nodes that are FP32, quantised or not; beside FP16 and BF16 kept like ``keep``.

        Returns:
            ``path``.
        """


def computes_in_fp16(precision: LowPrecision, target: Target = "tensorrt") -> bool:
    """Whether a precision's graph computes in FP16 what is not quantised, or all of it.

    Its input and output can be 16 bits then. BF16 graphs keep FP32: numpy has no BF16, and ONNX Runtime takes
    none from Python. So do INT8 ones for CPUs, whose rest is FP32.
    """
    return precision in ("fp16", "fp8") or (precision == "int8" and target == "tensorrt")


def maker(
    precision: LowPrecision,
    source: Path,
    images: ImageSet,
    processor: GLPNImageProcessor,
    calibration: CalibrationOptions = CalibrationOptions(),  # noqa: B008 - frozen
    target: Target = "tensorrt",
    io: Io = "fp32",
) -> tuple[Make, dict[str, Any] | None]:
    """What writes a precision's graph with some nodes kept; ranges are looked for here, once.

    Args:
        precision: The lower precision.
        source: The FP32 graph, of its `LEAST_OPSET` or later.
        images: Those to find ranges on, where it needs any.
        processor: The bundle's image processor.
        calibration: How ranges are found.
        target: What INT8 is for.
        io: Type of input and output.

    Returns:
        The writer, and what the manifest says of the ranges; None where there are none.

    Raises:
        GlpnError: The source is no FP32 graph of ours or of too old an opset, or it could not be run.
    """
    if precision == "fp16" or precision == "bf16":

        def make_half(keep: frozenset[str], path: Path, full: frozenset[str] = frozenset()) -> Path:
            return to_half(source, path, HalfOptions(precision, keep | full, io))

        return make_half, None

    def find_ranges(tensors: list[str]) -> Ranges:
        return calibrate(source, images.calibration, processor, tensors, calibration)

    if precision == "int8":
        int8 = Int8Options(target, io=io)
        ranges = find_ranges(quantised_tensors(source, int8))
        recipe = describe_int8(int8)

        def make(keep: frozenset[str], path: Path, full: frozenset[str] = frozenset()) -> Path:
            return to_int8(source, path, ranges, dataclasses.replace(int8, keep=keep, full=full))
    else:
        ranges = find_ranges(fp8_tensors(source))
        recipe = describe_fp8(Fp8Options())

        def make(keep: frozenset[str], path: Path, full: frozenset[str] = frozenset()) -> Path:
            return to_fp8(source, path, ranges, Fp8Options(keep, full, io))

    about = {**ranges.to_dict(), "images_from": images.source, "recipe": recipe}
    if calibration.method == "percentile":
        about["percentile"] = calibration.percentile
    return make, about
