"""The prototypes and numbers are those of cuda.h, of the oldest CUDA served and of the present one."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest

from glpn_deploy.errors import BackendError
from glpn_deploy.gpu import cuda_driver
from glpn_deploy.gpu.cuda_driver import PROTOTYPES, SIGNATURES, CudaDriver
from tests.refusals import refused

HEADERS = {"CUDA 12": "nvidia.cuda_runtime.include", "CUDA 13": "nvidia.cu13.include"}


@pytest.fixture(params=HEADERS)
def header(request) -> str:
    """Of the packages nvidia-cuda-runtime-cu12 and nvidia-cuda-runtime."""
    try:
        found = importlib.util.find_spec(HEADERS[request.param])
    except ModuleNotFoundError:
        found = None
    for folder in () if found is None else found.submodule_search_locations or ():
        if (path := Path(folder) / "cuda.h").is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    pytest.skip(f"cuda.h of {request.param} is not installed (pip install .[test] on x86-64)")


def prototypes(header: str) -> dict[str, str]:
    """Parameters by the name that the library exports, which cuda.h's macros give to the newest one."""
    begin = [m.start() for m in re.finditer(r"^#if defined\(__CUDA_API_VERSION_INTERNAL\)$", header, re.M)][
        -1
    ]
    newest, older = header[:begin], header[begin:]
    macro = r"^\s*#define (cu\w+)\s+(?:__CUDA_API_PT[SD][SZ]\()?(cu\w+)\)?\s*$"
    exported = dict(reversed(re.findall(macro, newest, re.M)))
    found = {}
    for text, names in ((older, {}), (newest, exported)):
        for name, inside in re.findall(r"^\s*CUresult CUDAAPI (cu\w+)\(([^)]*)\);", text, re.M):
            found[names.get(name, name)] = " ".join(inside.split())
    return found


def test_the_prototypes_are_the_headers(header):
    theirs = prototypes(header)
    ours = re.findall(r"(\w+)\((.*)\)", PROTOTYPES)
    assert len(ours) == len(SIGNATURES) > 30
    assert {name: theirs.get(name) for name, _ in ours} == dict(ours)


def numbers(header: str) -> dict[str, int]:
    """Enumerators and plain macros."""
    equal = re.findall(r"^\s*(CU\w+)\s*=\s*(0x[\da-fA-F]+|\d+)\b", header, re.M)
    defined = re.findall(r"^#define (CU\w+)\s+(?:\(\(CUstream\))?(0x[\da-fA-F]+|\d+)\b", header, re.M)
    return {name: int(value, 0) for name, value in equal + defined}


def test_the_numbers_are_the_headers(header, cuda_simulator):
    ours = {name: value for name, value in vars(cuda_driver).items() if re.match(r"CU(DA)?_[A-Z]", name)}
    assert len(ours) > 15
    ours |= {code.name: code.value for code in cuda_simulator.CUresult}
    theirs = numbers(header)
    assert {name: theirs.get(name) for name in ours} == ours


def test_values_go_in_and_come_out():
    """By a C function of the prototype: addresses are not cut to 32 bits, and several values are a tuple."""
    seen = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_ulonglong), ctypes.c_size_t)
    def allocate(address, size):
        seen.append(size)
        address[0] = 0x7F00_1234_5678
        return 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t))
    def memory(free, total):
        free[0], total[0] = 3, 1 << 40
        return 0

    library = type("Library", (), {})()
    library.cuMemAlloc_v2, library.cuMemGetInfo_v2 = allocate, memory
    driver = CudaDriver(library)
    assert driver.call("cuMemAlloc_v2", 1 << 33) == 0x7F00_1234_5678
    assert seen == [1 << 33]
    assert driver.call("cuMemGetInfo_v2") == (3, 1 << 40)
    with pytest.raises(AssertionError):
        driver.call("cuMemGetInfo_v2", 1)
    with refused(BackendError, got="has no cuCtxSetCurrent", fix="reinstall"):
        driver.call("cuCtxSetCurrent", 1)
