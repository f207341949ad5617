"""What this machine can run, what is missing, and the line that mends it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from glpn_deploy.runtimes.registry import BACKENDS

Status = Literal["ok", "missing", "warning"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        status: ``ok``, ``missing`` (something does not run without it) or ``warning``.
        detail: What was found.
        fix: The line that mends it, or nothing.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Looks at Python, processor, memory, GPU, backends and export tools; runs no network."""
    return [_python(), _processor(), _memory(), _gpu(), *_backends(), _export()]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    """For ``--json``: all findings, and which backends can run."""
    return {
        "backends": [
            f.name for f in findings if f.name in BACKENDS and f.name != "null" and f.status == "ok"
        ],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")


def _processor() -> Finding:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Finding(
            "processor", "ok", f"{os.cpu_count()} cores, {platform.processor() or 'unknown model'}"
        )
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = set(match[1].split()) if (match := re.search(r"flags\s*:\s*(.+)", text)) else set()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_tile": "AMX"}
    have = [label for flag, label in known.items() if flag in flags]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{usable} of {os.cpu_count()} cores usable, {model[1].strip() if model else platform.machine()}"
    return Finding("processor", "ok", detail + (f" ({', '.join(have)})" if have else ""))


def _memory() -> Finding:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return Finding("memory", "ok", "not told by this system")
    sizes = dict(re.findall(r"(\w+):\s+(\d+) kB", text))
    total, free = (int(sizes.get(key, 0)) / 2**20 for key in ("MemTotal", "MemAvailable"))
    detail = f"{free:.1f} of {total:.1f} GiB free"
    if free < 2:
        return Finding(
            "memory", "warning", detail, "close other programs: glpn-nyu at 480x640 takes about 1.5 GiB"
        )
    return Finding("memory", "ok", detail)


def _gpu() -> Finding:
    """NVIDIA only: no other GPU has a backend here."""
    jetson = Path("/etc/nv_tegra_release")
    if jetson.is_file():
        release = jetson.read_text(encoding="utf-8", errors="replace").partition("\n")[0].lstrip("# ")
        old = (match := re.search(r"R(\d+)", release)) and int(match[1]) < 36
        if old:
            fix = "flash JetPack 6.0 or later: JetPack 5 (TensorRT 8.5) cannot read LayerNormalization"
            return Finding("gpu", "warning", f"Jetson, {release}", fix)
        return Finding("gpu", "ok", f"Jetson, {release}")
    command = shutil.which("nvidia-smi")
    if command is None:
        detail = "no NVIDIA GPU or driver found (no nvidia-smi); the CPU backends work without"
        return Finding("gpu", "ok", detail)
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        run = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("gpu", "warning", f"nvidia-smi failed ({error})", "reinstall the NVIDIA driver")
    return Finding("gpu", "ok", "; ".join(run.stdout.strip().splitlines()) or "nvidia-smi lists none")


def _backends() -> list[Finding]:
    findings = []
    for backend in BACKENDS.values():
        if backend.package is None:
            continue
        install = backend.missing()
        if install is not None:
            findings.append(Finding(backend.name, "missing", f"{backend.package} is not installed", install))
            continue
        try:
            findings.append(_probe(backend.name))
        except Exception as error:  # a broken install fails in its own way: report it, go on
            reason = next(iter(str(error).splitlines()), "no message")
            detail = f"installed, but does not import ({type(error).__name__}: {reason})"
            findings.append(Finding(backend.name, "missing", detail, f"reinstall it: {backend.install}"))
    return findings


def _probe(name: str) -> Finding:
    if name == "onnxruntime":
        runtime = importlib.import_module("glpn_deploy.runtimes.rt_onnxruntime")
        version = importlib.import_module("onnxruntime").__version__
        reason = runtime.missing_provider_reason("CUDAExecutionProvider")
        if reason is None:
            return Finding(name, "ok", f"{version}, CPU and CUDA")
        return Finding(
            name, "ok", f"{version}, CPU", f"for CUDA: {reason}" if shutil.which("nvidia-smi") else ""
        )
    if name == "openvino":
        runtime = importlib.import_module("glpn_deploy.runtimes.rt_openvino")
        version = importlib.metadata.version("openvino")
        return Finding(name, "ok", f"{version}, CPU in {', '.join(runtime.native_precisions())}")
    torch = importlib.import_module("torch")
    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU"
    return Finding(name, "ok", f"{torch.__version__}, {cuda}")


def _export() -> Finding:
    needed = ("torch", "onnx", "safetensors", "huggingface_hub")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        detail = f"glpn-export needs {', '.join(missing)} (running bundles does not)"
        return Finding("export", "missing", detail, 'pip install "glpn-deploy[cpu,export]"')
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in needed[1:])
    return Finding("export", "ok", versions)
