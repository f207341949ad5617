"""The driver's answers, given by C functions of the signatures in cuda.h, and what is made of them."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import pytest

from glpn_deploy.errors import BackendError
from glpn_deploy.gpu import cuda_device, cuda_driver
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device, find_device_or_none
from glpn_deploy.gpu.cuda_driver import SIGNATURES
from glpn_deploy.reading import memory_sizes
from tests.refusals import refused

UNKNOWN = ctypes.create_string_buffer(b"CUDA_ERROR_UNKNOWN")
NAMES = [name for name in SIGNATURES if re.match("cuInit|cuDriver|cuDevice(Get|Total)|cuGetErrorName", name)]
ATTRIBUTES = {
    75: 8,
    76: 7,
    18: 1,
    16: 8,
}  # COMPUTE_CAPABILITY_MAJOR, _MINOR, INTEGRATED, MULTIPROCESSOR_COUNT
H100 = {75: 9, 76: 0, 18: 0, 16: 132}


class Driver:
    """A library whose functions are real C functions, so that ctypes checks what they are given."""

    def __init__(self, failing: dict[str, int] | None = None, count: int = 2, version: int = 12060) -> None:
        self.failing, self.devices, self.number = failing or {}, count, version
        self.calls: list[str] = []
        for name in NAMES:
            signature = [ctypes.POINTER(p.type) if p.written else p.type for p in SIGNATURES[name]]
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *signature)(self._function(name)))

    def _function(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            return getattr(self, f"answer_{name}")(*arguments) or 0

        return call

    def answer_cuInit(self, flags):  # noqa: N802
        assert flags == 0

    def answer_cuDriverGetVersion(self, out):  # noqa: N802
        out[0] = self.number

    def answer_cuDeviceGetCount(self, out):  # noqa: N802
        out[0] = self.devices

    def answer_cuDeviceGet(self, out, ordinal):  # noqa: N802
        out[0] = 40 + ordinal  # a handle is not the number

    def answer_cuDeviceGetName(self, text, length, handle):  # noqa: N802
        name = b"Orin\0" if handle == 40 else b"NVIDIA H100\0"
        assert length >= len(name)
        ctypes.memmove(text, name, len(name))

    def answer_cuDeviceTotalMem_v2(self, out, handle):  # noqa: N802
        out[0] = 7 * 2**30 + handle

    def answer_cuDeviceGetAttribute(self, out, attribute, handle):  # noqa: N802
        out[0] = (ATTRIBUTES if handle == 40 else H100)[attribute]

    def answer_cuGetErrorName(self, code, out):  # noqa: N802
        if code != 999:
            return 1  # CUDA_ERROR_INVALID_VALUE: a code it does not know
        out[0] = ctypes.addressof(UNKNOWN)
        return 0


@pytest.fixture
def driver(monkeypatch):
    def make(**options):
        made = Driver(**options)
        monkeypatch.setattr(cuda_driver, "load_library", lambda: made)
        return made

    return make


def test_all_that_the_driver_tells(driver, monkeypatch, tmp_path):
    driver()
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    monkeypatch.setattr(cuda_device, "_MODEL", tmp_path / "model")
    board = "NVIDIA Jetson Orin Nano Developer Kit"
    orin = CudaDevice(0, "Orin", (8, 7), 7 * 2**30 + 40, True, (12, 6), 8, board)
    assert find_device() == orin
    assert (orin.cuda, orin.capability) == ("12.6", "8.7")


@pytest.mark.parametrize(("number", "expected"), [(11040, (11, 4)), (12020, (12, 2)), (13020, (13, 2))])
def test_driver_versions(driver, number, expected):
    driver(version=number)
    assert find_device(least_cuda=expected).driver == expected


def test_a_driver_too_old(driver):
    made = driver(version=12040)
    with refused(BackendError, got="brings CUDA 12.4", expected="CUDA 13.0 or later", fix="update"):
        find_device(least_cuda=(13, 0))
    assert "cuDeviceGet" not in made.calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failing": {"cuInit": 100}}, "finds no GPU; see what nvidia-smi lists"),
        ({"count": 0}, "finds no GPU; see what nvidia-smi lists"),
        ({"failing": {"cuInit": 34}}, "stand-in for linking"),
        ({"failing": {"cuInit": 803}}, "different versions; restart"),
        ({"failing": {"cuInit": 802}}, "fabricmanager"),
        ({"failing": {"cuInit": 999}}, r"cuInit failed with CUDA_ERROR_UNKNOWN"),
        ({"failing": {"cuDeviceGetName": 12345}}, r"cuDeviceGetName failed with error 12345"),
        ({"failing": {"cuDriverGetVersion": 999}}, "cuDriverGetVersion failed"),
        ({"failing": {"cuDeviceGetAttribute": 999}}, "cuDeviceGetAttribute failed"),
    ],
)
def test_every_failure_is_a_sentence(driver, options, message):
    driver(**options)
    with pytest.raises(BackendError, match=message):
        find_device()
    assert find_device_or_none() is None


def test_a_library_that_lacks_functions(monkeypatch):
    monkeypatch.setattr(cuda_driver, "load_library", lambda: ctypes.CDLL(None))
    with refused(BackendError, got="has no cuInit", fix="reinstall"):
        find_device()


def test_no_driver(monkeypatch):
    def refuse(name):
        raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(BackendError, match=r"no NVIDIA driver \(\S+: cannot open .*directory\); install it"):
        find_device()


def test_this_machine_answers_and_imports_no_package():
    """Whatever stands here: a device or a sentence, and never TensorRT."""
    program = """
import sys
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.errors import BackendError
try:
    print(find_device().name)
except BackendError as error:
    print(error)
assert not {"tensorrt", "cuda.bindings", "torch", "numpy"} & {*sys.modules}
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_free_memory_is_the_machines_on_integrated_gpus_only(monkeypatch, tmp_path):
    file = tmp_path / "proc/meminfo"
    file.parent.mkdir()
    monkeypatch.setattr(cuda_device, "memory_sizes", lambda: memory_sizes(tmp_path))
    orin = CudaDevice(0, "Orin", (8, 7), 8 * 2**30, integrated=True, driver=(12, 6))
    assert orin.free_bytes() is None
    file.write_text("MemTotal:        7800000 kB\nMemFree:  100 kB\nMemAvailable:    5000000 kB\n")
    assert orin.free_bytes() == 5_000_000 * 1024
    assert CudaDevice(0, "H100", (9, 0), 80 * 2**30, integrated=False, driver=(12, 6)).free_bytes() is None
