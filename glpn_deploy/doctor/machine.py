"""What this machine can run, what is missing, and the line that mends it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.doctor.finding import Finding, Run, run_command
from glpn_deploy.doctor.machine_gpu import (
    cuda_finding,
    engines_finding,
    gpu_findings,
    rtx_finding,
    tensorrt_finding,
)
from glpn_deploy.errors import first_line
from glpn_deploy.gpu.cuda_device import find_device_or_none
from glpn_deploy.optional import install_line
from glpn_deploy.reading import memory_sizes
from glpn_deploy.runtimes.processor import describe_processor
from glpn_deploy.runtimes.registry import BACKENDS, Backend

_JETPACK_TENSORRT = (
    "sudo apt install python3-libnvinfer, and make the environment with python3 -m venv "
    "--system-site-packages: TensorRT is JetPack's, not pip's"
)
_LEAST_GIB = 2.0


def examine(root: Path = Path("/"), run: Run = run_command) -> list[Finding]:
    """All findings of `look`."""
    return list(look(root, run))


def look(root: Path = Path("/"), run: Run = run_command) -> Iterator[Finding]:
    """Looks at Python, processor, memory, GPU, backends and export tools; runs no network.

    Yields:
        What was found, as soon as it is known: importing a backend takes seconds.
    """
    yield _python()
    yield _processor(root)
    gpu = gpu_findings(root, run)
    jetson = any(finding.name == "jetson" for finding in gpu)
    yield _memory(root, jetson)
    yield from gpu
    yield from _backends(jetson)
    if (cuda := cuda_finding()) is not None:
        yield cuda
        yield engines_finding()
    yield _export()
    yield from _remembered()


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """For ``--json``: all findings, and which backends can run."""
    return {
        "backends": [
            f.name for f in findings if f.name in BACKENDS and f.name != "null" and f.status != "missing"
        ],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")


def _processor(root: Path) -> Finding:
    return Finding("processor", "ok", describe_processor(root))


def _remembered() -> list[Finding]:
    """What ``auto`` goes by, or would on another machine."""
    from glpn_deploy.runtimes.remembered import machine_now, remembered  # numpy, for which no line waits

    found, now = [], ""
    for path, about in remembered():
        now = now or machine_now()
        shown = about.precision if about.precision in about.fastest else next(iter(about.fastest), None)
        if shown is None:
            continue
        taken = f"{about.fastest[shown].backend} for networks like {about.bundle}'s"
        detail = f"{taken}, remembered from glpn-bench of {about.date}: {about.told(shown)}"
        if about.machine != now:
            detail += f"; not used, since it was measured on {about.machine}"
        found.append(Finding("auto", "ok", detail, f"glpn-bench BUNDLE --forget, or delete {path}"))
    return found


def _memory(root: Path, jetson: bool) -> Finding:
    sizes = memory_sizes(root)
    if not sizes:
        return Finding("memory", "ok", "this system does not tell")
    total, free = (sizes.get(key, 0) / 2**30 for key in ("MemTotal", "MemAvailable"))
    shared = ", shared by processor and GPU" if jetson else ""
    detail = f"{free:.1f} of {total:.1f} GiB free{shared}"
    if free >= _LEAST_GIB:
        return Finding("memory", "ok", detail)
    fix = "close other programs: glpn-nyu at 480x640 takes about 1.5 GiB"
    if jetson:
        fix += ", and glpn-build more; sudo systemctl isolate multi-user.target stops the desktop"
    return Finding("memory", "warning", detail, fix)


def _backends(jetson: bool) -> Iterator[Finding]:
    for backend in BACKENDS.values():
        if backend.package is None:
            continue
        install = backend.missing()
        if install is not None:
            if jetson and backend.name == "tensorrt":
                install = _JETPACK_TENSORRT
            yield Finding(backend.name, "missing", f"{backend.package} is not installed", install)
            continue
        try:
            yield _probe(backend)
        except Exception as error:  # a broken install fails in its own way: report it, go on
            detail = f"installed, but does not import ({type(error).__name__}: {first_line(error)})"
            yield Finding(backend.name, "missing", detail, f"reinstall it: {backend.reinstall}")


def _probe(backend: Backend) -> Finding:
    if backend.name == "tensorrt":  # not to be imported where there is no GPU
        return tensorrt_finding()
    if backend.name == "tensorrt_rtx":
        return rtx_finding()
    runtime = importlib.import_module(f"glpn_deploy.runtimes.rt_{backend.name}")
    if doubled := backend.doubled():
        fix = f"keep one: {backend.reinstall}, or with a GPU {install_line('gpu')}"
        return Finding(backend.name, "warning", f"{runtime.installed()}; {doubled}", fix)
    return Finding(backend.name, "ok", runtime.installed(), _cuda_hint(backend.name, runtime))


def _cuda_hint(name: str, runtime: Any) -> str:
    """What ONNX Runtime lacks for a GPU that is there."""
    if name != "onnxruntime" or find_device_or_none() is None:
        return ""
    reason = runtime.missing_provider_reason("CUDAExecutionProvider")
    return "" if reason is None else f"for CUDA: {reason}"


def _export() -> Finding:
    needed = ("torch", "onnx", "safetensors", "huggingface_hub")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        detail = f"glpn-export needs {', '.join(missing)} (running bundles does not)"
        return Finding("export", "missing", detail, install_line("cpu", "export"))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in needed[1:])
    return Finding("export", "ok", versions)
