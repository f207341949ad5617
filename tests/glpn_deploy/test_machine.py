"""What a machine can run is told from what is there, and no finding ever raises."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess

import onnxruntime as ort
import pytest
import torch

from glpn_deploy import machine
from glpn_deploy.machine import examine, to_dict


def found(name: str) -> machine.Finding:
    return next(finding for finding in examine() if finding.name == name)


def openvino_capabilities() -> list[str]:
    from glpn_deploy.runtimes.rt_openvino import ov

    return ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_this_machine():
    findings = examine()
    names = [finding.name for finding in findings]
    assert names == ["python", "processor", "memory", "gpu", "torch", "onnxruntime", "openvino", "export"]
    assert platform.python_version() in found("python").detail
    assert found("torch").detail.startswith(torch.__version__)
    assert found("onnxruntime").detail.startswith(ort.__version__)
    openvino = found("openvino").detail
    assert openvino.startswith(importlib.metadata.version("openvino"))
    capabilities = openvino_capabilities()
    assert ("bf16" in openvino, "fp16" in openvino) == ("BF16" in capabilities, "FP16" in capabilities)
    report = json.loads(json.dumps(to_dict(findings)))
    assert report["backends"] == ["torch", "onnxruntime", "openvino"]
    assert [finding["name"] for finding in report["findings"]] == names


def test_missing_packages_come_with_the_line_that_mends_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = {finding.name: finding for finding in examine()}
    for name, extras in (
        ("torch", "[export]"),
        ("onnxruntime", "[cpu]"),
        ("openvino", "[openvino]"),
        ("export", "[cpu,export]"),
    ):
        assert findings[name].status == "missing"
        assert findings[name].fix == f'pip install "glpn-deploy{extras}"'
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
    assert finding.fix.startswith("reinstall it")


def test_a_gpu_that_answers(monkeypatch):
    def answer(command, **options):
        return subprocess.CompletedProcess(command, 0, "NVIDIA A10, 570.1, 23028 MiB\n", "")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", answer)
    assert found("gpu").detail == "NVIDIA A10, 570.1, 23028 MiB"


@pytest.mark.parametrize(
    "error",
    [
        subprocess.TimeoutExpired("nvidia-smi", 20),
        subprocess.CalledProcessError(9, "nvidia-smi"),
        PermissionError("denied"),
    ],
)
def test_a_driver_that_does_not_answer(error, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", fail)
    assert (found("gpu").status, found("gpu").fix) == ("warning", "reinstall the NVIDIA driver")


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert found("gpu").status == "ok"


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Other systems' answers in place of this one's files."""
    answers: dict[str, str] = {}

    class FakePath:
        def __init__(self, name):
            self.name = name

        def read_text(self, **options):
            if self.name not in answers:
                raise FileNotFoundError(self.name)
            return answers[self.name]

        def is_file(self):
            return self.name in answers

    monkeypatch.setattr(machine, "Path", FakePath)
    return answers


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n", "ok"),
        ("# R35 (release), REVISION: 5.0\n", "warning"),
        ("", "ok"),
    ],
)
def test_jetson(release, status, files):
    files["/etc/nv_tegra_release"] = release
    assert found("gpu").status == status
    assert found("gpu").detail.startswith("Jetson")
    assert ("JetPack 6" in found("gpu").fix) == (status == "warning")


def test_processor_and_memory(files):
    files["/proc/cpuinfo"] = "model name\t: Fast CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_tile\n"
    files["/proc/meminfo"] = "MemTotal:  8388608 kB\nMemAvailable:  1048576 kB\n"
    assert found("processor").detail.endswith("Fast CPU (AVX2, AVX-512, VNNI, AMX)")
    assert found("memory").detail == "1.0 of 8.0 GiB free"
    assert found("memory").status == "warning"
    files["/proc/meminfo"] = "MemTotal:  8388608 kB\nMemAvailable:  7340032 kB\n"
    assert found("memory").status == "ok"


@pytest.mark.usefixtures("files")
def test_a_system_that_tells_nothing():
    assert found("memory").detail == "not told by this system"
    assert found("processor").status == "ok"
