"""What every field of an engine's sidecar may hold: the file may come from anywhere, and is not trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from glpn_deploy.bundle.engine_profile import MAX_PROFILES
from glpn_deploy.precisions import PRECISIONS

Compatibility = Literal["none", "ampere_plus", "same_compute_capability"]
FORMAT = 1
DEFAULT_LEVEL = 3
"""TensorRT's own builder optimisation level."""
MAX_WARNINGS = 256

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


def _texts(most: int, pattern: str = "", least: int = 0) -> Callable[[Any], bool]:
    check = _text(pattern)
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(check, value))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


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
    "flags": _texts(256),
    "layers": _layers,
    "build_s": _real(0, 1e9),
    "tf32": _flag,
    "io": _text(r"[a-z0-9]{1,16}"),
    "parity": _or_none(lambda value: isinstance(value, dict)),
    "level": _whole(0, 5),
    "workspace_mb": _or_none(_whole(1, 1 << 20)),
    "tactic_dram_mb": _or_none(_whole(1, 1 << 20)),
    "tactic_sources": _or_none(_texts(32, r"[a-z0-9_]{1,64}", least=1)),
    "device_memory_bytes": _or_none(_whole(0, 1 << 50)),
    "warnings": _texts(MAX_WARNINGS),
}
"""The check of every field by its name; the profiles are checked further by `Profile.from_dict`."""

ADDED = frozenset(
    {"level", "workspace_mb", "tactic_dram_mb", "tactic_sources", "device_memory_bytes", "warnings"}
)
"""Fields that sidecars of the first releases do not have; they then hold their defaults."""
