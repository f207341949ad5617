"""What a machine can run is told from what is there, and no finding ever raises."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
from types import SimpleNamespace

import onnxruntime as ort
import pytest
import torch

from glpn_deploy.doctor import machine, machine_gpu
from glpn_deploy.doctor.finding import Finding, run_command
from glpn_deploy.doctor.machine import examine, to_dict
from glpn_deploy.errors import BackendError, MissingDependencyError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.optional import install_line
from glpn_deploy.runtimes.registry import BACKENDS


def found(name: str) -> Finding:
    return next(finding for finding in examine() if finding.name == name)


def openvino_capabilities() -> list[str]:
    from glpn_deploy.runtimes import rt_openvino

    return rt_openvino._CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_this_machine():
    findings = examine()
    names = [finding.name for finding in findings]
    backends = ["torch", "onnxruntime", "openvino", "tensorrt"]
    assert names[:4] == ["python", "processor", "memory", "gpu"]
    assert [name for name in names if name in backends] == backends
    assert names[-1] == "export"
    assert platform.python_version() in found("python").detail
    assert found("torch").detail.startswith(torch.__version__)
    assert found("onnxruntime").detail.startswith(ort.__version__)
    openvino = found("openvino").detail
    assert openvino.startswith(importlib.metadata.version("openvino"))
    capabilities = openvino_capabilities()
    assert ("bf16" in openvino, "fp16" in openvino) == ("BF16" in capabilities, "FP16" in capabilities)
    report = json.loads(json.dumps(to_dict(findings)))
    assert report["backends"][:3] == ["torch", "onnxruntime", "openvino"]
    assert [finding["name"] for finding in report["findings"]] == names


def test_missing_packages_come_with_the_line_that_mends_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = {finding.name: finding for finding in examine()}
    for name, extras in (
        ("torch", ["export"]),
        ("onnxruntime", ["cpu"]),
        ("openvino", ["openvino"]),
        ("tensorrt", ["tensorrt"]),
        ("export", ["cpu", "export"]),
    ):
        assert findings[name].status == "missing"
        assert findings[name].fix == install_line(*extras)
    assert to_dict(examine())["backends"] == []


@pytest.mark.parametrize("error", [ImportError("libcudart.so.12\nmore"), OSError(), AttributeError("x")])
def test_broken_packages_are_reported(error, monkeypatch):
    def broken(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    finding = found("onnxruntime")
    assert finding.status == "missing"
    assert "installed, but does not import" in finding.detail
    assert "\n" not in finding.detail
    assert finding.fix.startswith("reinstall it: pip uninstall -y onnxruntime onnxruntime-gpu, then ")


def test_both_distributions_of_onnxruntime_are_one_too_many(monkeypatch):
    assert found("onnxruntime").status == "ok"
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "1.20.1" if name.startswith("onnxruntime") else version(name),
    )
    finding = found("onnxruntime")
    assert finding.status == "warning"
    assert "onnxruntime 1.20.1 and onnxruntime-gpu 1.20.1 are both installed" in finding.detail
    assert "pip uninstall -y onnxruntime onnxruntime-gpu, then " in finding.fix  # one alone breaks the other
    assert to_dict(examine())["backends"].count("onnxruntime") == 1


# GPUs, as the driver and the system tell ----------------------------------------------------------------

ORIN = CudaDevice(0, "Orin", (8, 7), 7_990_000_000, True, (12, 6))
THOR = CudaDevice(0, "NVIDIA Thor", (11, 0), 131_000_000_000, True, (13, 0))
A10 = CudaDevice(0, "NVIDIA A10", (8, 6), 23_600_000_000, False, (12, 8))


def tensorrt(text):
    return SimpleNamespace(
        __version__=text, NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    )


@pytest.fixture
def gpu(monkeypatch):
    """Stands in for the driver and what is installed for it."""

    def stand_in(device, version=None):
        def find(*args, **options):
            if isinstance(device, BackendError):
                raise device
            return device

        def import_trt():
            find()
            if version is None:
                raise MissingDependencyError("tensorrt is not installed", fix="install it")
            return tensorrt(version)

        monkeypatch.setattr(machine_gpu, "find_device", find)
        monkeypatch.setattr(machine, "find_device_or_none", lambda: device)
        monkeypatch.setattr(machine_gpu, "import_tensorrt", import_trt)
        if version is not None:
            monkeypatch.setattr(BACKENDS["tensorrt"].__class__, "missing", lambda self: None)

    return stand_in


def test_a_gpu_that_answers(gpu, tmp_path):
    gpu(A10, "10.13.3.9")
    findings = {finding.name: finding for finding in examine(tmp_path, lambda command: None)}
    assert findings["gpu"].detail == "NVIDIA A10, compute capability 8.6, 22.0 GiB, driver for CUDA 12.8"
    assert findings["tensorrt"].status == "ok"
    assert findings["tensorrt"].detail == "10.13.3, reads opset 20"
    assert "compute capability 8.6" in findings["engines"].detail
    assert findings["engines"].detail.endswith("fp32, fp16, bf16, int8")  # FP8 came with Ada
    assert findings["cuda"].detail.startswith("driver has 12.8; packages made with: ")
    assert "tensorrt" in to_dict(list(findings.values()))["backends"]


def test_a_driver_that_does_not_answer(gpu, tmp_path):
    gpu(BackendError("the NVIDIA driver finds no GPU", fix="see what nvidia-smi lists"))
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: NVIDIA UNIX x86_64")
    findings = {finding.name: finding for finding in examine(tmp_path, lambda command: None)}
    assert (findings["gpu"].status, findings["gpu"].fix) == ("warning", "see what nvidia-smi lists")
    assert not {"cuda", "engines"} & findings.keys()


def test_no_gpu(gpu, tmp_path):
    gpu(BackendError("there is no NVIDIA driver", fix="install it"))
    gpus = machine_gpu.gpu_findings(tmp_path, lambda command: None)
    assert [(finding.name, finding.status) for finding in gpus] == [("gpu", "ok")]


def test_a_jetson(gpu, tmp_path):
    """JetPack 6.2 on an Orin: TensorRT 10.3, whose FP16 is known to be wrong on networks like this one."""
    gpu(ORIN, "10.3.0")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  7802112 kB\nMemAvailable:  1848576 kB\n")
    answers = {"nvpmodel": "NV Power Mode: 15W\n0\n"}
    found = examine(tmp_path, lambda command: answers.get(command[0]))
    findings = {finding.name: finding for finding in found}
    assert "JetPack 6.2 (L4T 36.4.3), which brings TensorRT 10.3" in findings["jetson"].detail
    assert "Orin, compute capability 8.7, 7.4 GiB shared with the processor" in findings["gpu"].detail
    assert findings["memory"].detail == "1.8 of 7.4 GiB free, shared by processor and GPU"
    assert "multi-user.target" in findings["memory"].fix
    assert findings["power"].detail.startswith("mode 15W")
    assert (findings["tensorrt"].status, "4723" in findings["tensorrt"].detail) == ("warning", True)
    assert "tensorrt" in to_dict(found)["backends"]  # it runs; what it gives must be verified


def test_a_jetson_takes_tensorrt_from_jetpack(gpu, tmp_path):
    gpu(THOR)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R38 (release), REVISION: 2.0, GCID: 41844464\n")
    findings = {finding.name: finding for finding in examine(tmp_path, lambda command: None)}
    assert findings["tensorrt"].status == "missing"
    assert "apt install python3-libnvinfer" in findings["tensorrt"].fix
    assert "pip install" not in findings["tensorrt"].fix
    assert findings["engines"].detail == "glpn-build cannot run: tensorrt is not installed"


def test_a_tensorrt_that_cannot_read_the_graphs(gpu):
    gpu(A10, "8.5.2")
    assert "cannot read LayerNormalization" in machine_gpu.engines_finding().detail


@pytest.mark.parametrize(
    ("needs", "status", "named"),
    [
        ({"torch": "12.8", "onnxruntime": "12.6"}, "ok", ""),
        ({"torch": "11.8"}, "ok", ""),  # an older major runs on a newer driver
        ({"torch": "12.8", "onnxruntime": "13.0"}, "warning", "install onnxruntime made for CUDA 12"),
        ({}, "ok", ""),
    ],
)
def test_packages_for_a_newer_cuda_than_the_driver_s(needs, status, named, gpu, monkeypatch):
    gpu(ORIN)
    monkeypatch.setattr(machine_gpu, "cuda_needs", lambda: needs)
    finding = machine_gpu.cuda_finding()
    assert finding.status == status
    assert named in finding.fix


def test_commands_of_the_system(tmp_path):
    assert run_command(["echo", "a b"]).strip() == "a b"
    assert run_command(["false"]) is None
    assert run_command([str(tmp_path / "nothing")]) is None


def test_processor_and_memory(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "model name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_tile\n"
    )

    def look(free):
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:  8388608 kB\nMemAvailable:  {free} kB\n")
        return {finding.name: finding for finding in examine(tmp_path, lambda command: None)}

    assert look(1048576)["processor"].detail.endswith("Fast CPU (AVX2, AVX-512, VNNI, AMX)")
    assert look(1048576)["memory"].detail == "1.0 of 8.0 GiB free"
    assert look(1048576)["memory"].status == "warning"
    assert look(7340032)["memory"].status == "ok"


def test_a_system_that_tells_nothing(tmp_path):
    findings = {finding.name: finding for finding in examine(tmp_path, lambda command: None)}
    assert findings["memory"].detail == "this system does not tell"
    assert findings["processor"].status == "ok"
