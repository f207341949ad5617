"""What a measurement was taken on: machine, versions, threads. Figures of unlike machines do not compare."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from glpn_deploy.doctor.machine import examine

PACKAGES = ("glpn-deploy", "torch", "onnx", "onnxruntime", "openvino", "transformers", "numpy", "pillow")


def describe_environment() -> dict[str, Any]:
    """Processor, memory, GPU, load and versions, for a report."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    findings = {f.name: f.detail for f in examine() if f.name in ("processor", "memory", "gpu")}
    return {
        **findings,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }
