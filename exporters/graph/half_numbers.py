"""Numbers of the two 16-bit types: rounding FP32 to them, widening them, and what they cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from glpn_deploy.precisions import HALF_PRECISIONS, PRECISION_INFO

HALF_TYPES = {
    name: TensorProto.DataType.Value(PRECISION_INFO[name].onnx_types[0]) for name in HALF_PRECISIONS
}
"""ONNX's element types of 16 bits, by precision."""

_UNIT = {"fp16": 2.0**-11, "bf16": 2.0**-8}  # largest relative error of rounding a normal number


def half_bits(values: NDArray[np.float32], precision: str) -> NDArray[np.uint16]:
    """The 16-bit patterns of FP32 numbers, rounded to nearest even; too large ones become infinite."""
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def from_half_bits(bits: NDArray[np.uint16], precision: str) -> NDArray[np.float32]:
    """The FP32 numbers, exactly, of 16-bit patterns."""
    if precision == "fp16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded_to_half(values: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """FP32 numbers after a way through the 16-bit type."""
    return from_half_bits(half_bits(values, precision), precision)


def overflows(values: NDArray[Any], precision: str) -> bool:
    """Whether a finite number becomes infinite in the 16-bit type."""
    return bool(np.any(np.isinf(rounded_to_half(values, precision)) & np.isfinite(values)))


def loses_digits(values: NDArray[Any], precision: str) -> bool:
    """Whether rounding costs the array as a whole more than the type's digits: norm(x - half(x)) > u norm(x).

    u, the largest relative error of a number in the normal range, is 2^-11 for FP16 and 2^-8 for BF16.
    More is lost where the whole array lies at the bottom of the range, below 6e-5 for FP16.
    """
    exact = values.astype(np.float64)
    error = np.linalg.norm(rounded_to_half(values, precision) - exact)
    return bool(error > _UNIT[precision] * np.linalg.norm(exact))
