"""What the GPU of this machine can run: driver, board, TensorRT, and whether engines build."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

from glpn_deploy.doctor.finding import Finding, Run
from glpn_deploy.doctor.jetson import jetson_findings, read_jetson
from glpn_deploy.errors import BackendError
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device
from glpn_deploy.gpu.tensorrt_rtx import TARGETS, import_tensorrt_rtx, rtx_of
from glpn_deploy.gpu.tensorrt_versions import (
    TensorRT,
    import_tensorrt,
    known_problem,
    least_cuda,
    tensorrt_of,
    unsupported,
)
from glpn_deploy.optional import installed_version
from glpn_deploy.precisions import PRECISIONS

_NO_GPU = "no NVIDIA GPU or driver found; the CPU backends work without"
# Between them, the files of a driver that is installed, working or not.
_DRIVER_FILES = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvhost-gpu", "dev/nvgpu")


def gpu_findings(root: Path, run: Run) -> list[Finding]:
    """The GPU; on a Jetson also the board, JetPack, power mode and clocks. NVIDIA only."""
    jetson = read_jetson(root, run)
    return [*(jetson_findings(jetson) if jetson is not None else []), _gpu(root, jetson is not None)]


def tensorrt_finding() -> Finding:
    """TensorRT's version, what is known to be wrong with it, and whether it is of use here."""
    try:
        device, trt = _tensorrt()
    except BackendError as error:
        version = installed_version("tensorrt")
        what = f"{version} is installed, but {error.got}" if version else error.got
        return Finding("tensorrt", "missing", what, error.fix)
    detail = f"{trt.text}, reads opset {trt.max_opset}"
    problem = known_problem(trt.version, "fp16", device.sm)
    if problem is not None:
        return Finding(
            "tensorrt",
            "warning",
            f"{detail}; {problem}",
            "hold every engine against the goldens: glpn-verify",
        )
    return Finding("tensorrt", "ok", detail)


def rtx_finding() -> Finding:
    """TensorRT for RTX's version, and whether its engines run here; they are built anywhere."""
    about = rtx_of(import_tensorrt_rtx())
    detail = f"{about.text}, builds engines for RTX cards: glpn-build BUNDLE --rtx"
    try:
        device = find_device()
    except BackendError as error:
        return Finding("tensorrt_rtx", "missing", f"{detail}; none runs here: {error.got}")
    if device.capability not in TARGETS:
        return Finding("tensorrt_rtx", "missing", f"{detail}; none runs on {device.name}")
    return Finding("tensorrt_rtx", "ok", detail)


def cuda_finding() -> Finding | None:
    """Whether the driver is new enough for the CUDA that the installed packages were made with."""
    try:
        device = find_device()
    except BackendError:
        return None  # said already
    needs = cuda_needs()
    told = ", ".join(f"{name} {version}" for name, version in needs.items()) or "none installed"
    detail = f"driver has {device.cuda}; packages made with: {told}"
    newer = [name for name, version in needs.items() if int(version.split(".")[0]) > device.driver[0]]
    if not newer:
        return Finding("cuda", "ok", detail)
    fix = f"update the driver, or install {', '.join(newer)} made for CUDA {device.driver[0]}"
    return Finding("cuda", "warning", detail, fix)


def engines_finding() -> Finding:
    """Whether `glpn-build` and the tensorrt backend can run here, and in which precisions."""
    try:
        device, trt = _tensorrt()
    except BackendError as error:
        return Finding("engines", "missing", f"glpn-build cannot run: {error.got}", error.fix)
    able = [precision for precision in PRECISIONS if unsupported(trt, precision, device) is None]
    detail = f"glpn-build can run: TensorRT {trt.text}, compute capability {device.capability}"
    return Finding("engines", "ok", f"{detail}; {', '.join(able)}")


def cuda_needs() -> dict[str, str]:
    """The CUDA versions that installed packages were made with, by package."""
    needs: dict[str, str] = {}
    with contextlib.suppress(Exception):  # a broken install is reported by its backend
        if (version := importlib.import_module("torch").version.cuda) is not None:
            needs["torch"] = str(version)
    with contextlib.suppress(Exception):
        if version := getattr(importlib.import_module("onnxruntime"), "cuda_version", ""):
            needs["onnxruntime"] = str(version)
    if (least := least_cuda()) is not None:
        needs["tensorrt"] = f"{least[0]}"
    return needs


def _tensorrt() -> tuple[CudaDevice, TensorRT]:
    trt = tensorrt_of(import_tensorrt())  # looks for a GPU first
    return find_device(), trt


def _gpu(root: Path, jetson: bool) -> Finding:
    try:
        device = find_device()
    except BackendError as error:
        if jetson or any((root / name).exists() for name in _DRIVER_FILES):
            return Finding("gpu", "warning", error.got, error.fix)
        return Finding("gpu", "ok", _NO_GPU)
    memory = f"{device.memory_bytes / 2**30:.1f} GiB" + (
        " shared with the processor" if device.integrated else ""
    )
    detail = f"{device.name}, compute capability {device.capability}, {memory}, driver for CUDA {device.cuda}"
    return Finding("gpu", "ok", detail)
