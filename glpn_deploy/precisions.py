"""The precisions that a network can have: one table, from which everything that lists them is derived."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionInfo:
    """What is known of a precision.

    Attributes:
        onnx_types: Names of ONNX's element types (``TensorProto.DataType``) that make a graph one of it; the
            first is what is written.
        least_opset: The first ONNX opset that can write it. 17 is the least of all graphs.
        max_abs_rel: Largest mean |a - b| / b against the FP32 graph's depth that is allowed by default.
        max_delta1_drop: How much of delta1 may be lost against ground truth.
        needs_ranges: Whether its graphs are made from ranges that are found on images.
        fallback: The 16-bit precision of what is not quantized in graphs for TensorRT, or of all.
        least_sm: Compute capability from which on NVIDIA's GPUs compute in it.
        on_cpus: Whether any CPU computes in it.
        in_onnxruntime: Whether ONNX Runtime's CPU kernels run it; else graphs are emulated there.
    """

    onnx_types: tuple[str, ...]
    least_opset: int = 17
    max_abs_rel: float | None = None
    max_delta1_drop: float | None = None
    needs_ranges: bool = False
    fallback: Precision | None = None
    least_sm: tuple[int, int] | None = None
    on_cpus: bool = True
    in_onnxruntime: bool = True


PRECISION_INFO: dict[str, PrecisionInfo] = {
    "fp32": PrecisionInfo(onnx_types=("FLOAT",)),
    "fp16": PrecisionInfo(
        onnx_types=("FLOAT16",),
        max_abs_rel=0.001,
        max_delta1_drop=0.001,
        fallback="fp16",
    ),
    "bf16": PrecisionInfo(
        onnx_types=("BFLOAT16",),
        least_opset=22,  # the first whose Conv takes BF16
        max_abs_rel=0.01,
        max_delta1_drop=0.005,
        fallback="bf16",
        least_sm=(8, 0),  # Ampere
        in_onnxruntime=False,
    ),
    "int8": PrecisionInfo(
        onnx_types=("INT8",),
        max_abs_rel=0.02,
        max_delta1_drop=0.01,
        needs_ranges=True,
        fallback="fp16",
    ),
    "fp8": PrecisionInfo(
        onnx_types=("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
        least_opset=19,  # the first whose QuantizeLinear takes FP8, and FP16
        max_abs_rel=0.05,
        max_delta1_drop=0.02,
        needs_ranges=True,
        fallback="fp16",
        least_sm=(8, 9),  # Ada, Hopper
        on_cpus=False,
        in_onnxruntime=False,
    ),
}
"""The table, by the names of `Precision`."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LOWER_PRECISIONS: tuple[Precision, ...] = tuple(name for name in PRECISIONS if name != "fp32")
HALF_PRECISIONS: tuple[Precision, ...] = tuple(
    name for name in PRECISIONS if PRECISION_INFO[name].fallback == name
)
QUANTIZED_PRECISIONS: tuple[Precision, ...] = tuple(
    name for name in PRECISIONS if PRECISION_INFO[name].needs_ranges
)
