"""What every field of an engine's sidecar may hold: the file may come from anywhere, and is not trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from glpn_deploy.engine_profile import MAX_PROFILES

Compatibility = Literal["none", "ampere_plus", "same_compute_capability"]
FORMAT = 1

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
_MAX_TEXT = 512


def _text(pattern: str = "") -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
            return False  # control characters would reach the terminal in messages
        return not pattern or re.fullmatch(pattern, value, re.ASCII) is not None

    return check


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _real(low: float, high: float) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if type(value) is int:
            return low <= value <= high  # without float(), which overflows
        return type(value) is float and math.isfinite(value) and low <= value <= high

    return check


def _flag(value: Any) -> bool:
    return type(value) is bool


def _inside(value: Any) -> bool:
    """A path that stays in the bundle."""
    if not _text()(value) or not value or "\\" in value or ":" in value:
        return False
    pure = PurePosixPath(value)
    return not pure.is_absolute() and ".." not in pure.parts


def _file_name(value: Any) -> bool:
    return _inside(value) and len(PurePosixPath(value).parts) == 1


def _layers(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 64
        and all(_text()(name) and _whole(0, 10**7)(count) for name, count in value.items())
    )


_DIGEST = _text(r"[0-9a-f]{64}")
CHECKS: dict[str, Callable[[Any], bool]] = {
    "format": _whole(1, FORMAT),
    "engine": _file_name,
    "sha256": _DIGEST,
    "bytes": _whole(1, 1 << 40),
    "bundle": _text(),
    "onnx": _inside,
    "onnx_sha256": _DIGEST,
    "precision": lambda value: value in PRECISIONS,
    "max_depth": _real(1e-6, 1e9),
    "size_multiple": _whole(1, 4096),
    "tensorrt": _text(r"\d{1,4}(\.\d{1,6}){1,4}"),
    "cuda": _text(),
    "gpu": _text(),
    "sm": _text(r"\d{1,3}\.\d{1,2}"),
    "platform": _text(),
    "compatibility": lambda value: value in get_args(Compatibility),
    "version_compatible": _flag,
    "stripped": _flag,
    "profiles": lambda value: isinstance(value, list) and 1 <= len(value) <= MAX_PROFILES,
    "flags": lambda value: isinstance(value, list) and len(value) <= 256 and all(map(_text(), value)),
    "layers": _layers,
    "build_s": _real(0, 1e9),
    "tf32": _flag,
    "io": _text(r"[a-z0-9]{1,16}"),
    "parity": lambda value: value is None or isinstance(value, dict),
}
"""The check of every field by its name; the profiles are checked further by `Profile.from_dict`."""
