"""TensorRT for RTX: NVIDIA's compiler for the RTX cards of others, which builds on a machine without a GPU.

It shares names, parser and strongly typed networks with TensorRT 11 and is a product of its own, with its own
version numbers. What it compiles here is compiled a second time, quickly, on the machine that runs it. What
each target computes in was found by compiling (1.7.1, tests/exporters/engine/test_rtx_compiler.py); the
targets themselves are NVIDIA's: https://docs.nvidia.com/deeplearning/tensorrt-rtx.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

from glpn_deploy.errors import BackendError, InputError, MissingDependencyError
from glpn_deploy.gpu.tensorrt_versions import TensorRT, import_library, parse_version
from glpn_deploy.optional import install_line

NAME = "TensorRT for RTX"
PACKAGE = "tensorrt_rtx_bindings"
EXTRA = "rtx"
PLATFORMS = ("linux-x86_64", "win32-amd64")
"""Where it runs; an engine that one of them built runs on the other."""

TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that it compiles for: Turing, Ampere (A100, RTX 30), Ada, Blackwell (RTX 50, GB10)."""
DEFAULT_TARGETS = ("8.0", "8.6", "8.9", "12.0")

_MAX_OPSET = 25
_LEAST_TARGET = {"fp32": (8, 0), "bf16": (8, 0), "int8": (8, 0), "fp8": (8, 9)}
_DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was not compiled for this GPU's compute capability",
    "OLD_CUDA_DRIVER": "the driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is no engine of this product, or is damaged",
}


def import_tensorrt_rtx() -> Any:
    """Imports TensorRT for RTX, which needs no GPU for that."""
    if importlib.util.find_spec(PACKAGE) is None:
        here = f"{sys.platform}-{platform.machine().lower()}"
        fix = (
            install_line(EXTRA)
            if here in PLATFORMS
            else f"use {' or '.join(PLATFORMS)}; there are no packages for {here}"
        )
        raise MissingDependencyError(f"{NAME} ({PACKAGE}) is not installed", fix=fix)
    return import_library(PACKAGE, install_line(EXTRA))


def rtx_of(module: Any) -> TensorRT:
    """How to speak to an imported TensorRT for RTX; versions before 1.1 are not known to work."""
    text = str(getattr(module, "__version__", "unknown"))
    version = parse_version(text)
    if version is None:
        raise BackendError(
            f"{NAME} has the version {text!r}", expected="1.7 or later", fix=install_line(EXTRA)
        )
    return TensorRT(module, version, text, _MAX_OPSET, strongly_typed=True, name=NAME)


def parse_targets(text: str) -> tuple[str, ...]:
    """``80,8.6`` gives ("8.0", "8.6"), sorted and each once."""
    found = []
    for word in text.split(","):
        digits = re.fullmatch(r"(\d{1,2})\.?(\d)", word.strip(), re.ASCII)
        target = f"{digits[1]}.{digits[2]}" if digits else word.strip()
        if target not in TARGETS:
            raise InputError(
                f"--sm {word.strip()!r}",
                expected=f"some of {', '.join(name.replace('.', '') for name in TARGETS)}",
                fix="write --sm 86,89 for RTX 30 and 40",
            )
        found.append(target)
    return tuple(target for target in TARGETS if target in found)


def default_targets(precision: str) -> tuple[str, ...]:
    """Those of `DEFAULT_TARGETS` that compute in a precision."""
    return tuple(target for target in DEFAULT_TARGETS if unsupported_targets(precision, (target,)) is None)


def unsupported_targets(precision: str, targets: Sequence[str]) -> str | None:
    """Why a precision cannot be compiled for all of the targets, or None where it can."""
    least = _LEAST_TARGET.get(precision, (0, 0))
    older = [target for target in targets if tuple(map(int, target.split("."))) < least]
    if not older:
        return None
    return (
        f"compute capability {', '.join(older)} has no {precision.upper()} in {NAME}, "
        f"which needs {least[0]}.{least[1]} or later"
    )


def invalidity(module: Any, runtime: Any, plan: Any) -> tuple[str, ...]:
    """What an engine's header says against it, as far as can be told without a GPU; nothing is executed.

    Returns:
        One clause a fault. Without a GPU none is said of GPU and driver.
    """
    _, bits = runtime.get_engine_validity(bytes(memoryview(plan)[: runtime.engine_header_size]))
    members = module.EngineInvalidityDiagnostics.__members__
    return tuple(
        reason
        for name, reason in _DIAGNOSTICS.items()
        if name in members and int(bits) & int(members[name].value)
    )
