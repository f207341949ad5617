"""What a measurement was taken on: machine, versions, threads. Figures of unlike machines do not compare."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from typing import Any

from glpn_deploy.doctor.machine import examine
from glpn_deploy.runtimes.registry import BACKENDS

_PACKAGES = (
    *("glpn-deploy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"),
    *("transformers", "optimum", "numpy", "pillow", "psutil", "nvidia-ml-py"),
)


def versions() -> dict[str, str]:
    """Versions of Python, this package and every backend."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *(backend.package for backend in BACKENDS.values() if backend.package)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def describe_environment() -> dict[str, Any]:
    """Processor, memory, GPU, load and versions, for a report."""
    findings = {f.name: f.detail for f in examine() if f.name in ("processor", "memory", "gpu")}
    return {
        **findings,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }
