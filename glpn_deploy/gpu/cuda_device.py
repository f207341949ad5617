"""The NVIDIA GPU of this machine, asked of the driver itself: no package is needed, and nothing can crash.

TensorRT must not be asked first: without a GPU its 8.6 runtime ends the process, and others raise errors
that say nothing.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glpn_deploy.errors import BackendError

# cuda.h: CUresult and CUdevice_attribute
_NO_DEVICE, _STUB_LIBRARY, _SYSTEM_NOT_READY, _DRIVER_MISMATCH = 100, 34, 802, 803
_INTEGRATED, _SM_MAJOR, _SM_MINOR = 18, 75, 76
_NAME_BYTES = 256

_MEMINFO = Path("/proc/meminfo")


@dataclasses.dataclass(frozen=True)
class CudaDevice:
    """One GPU.

    Attributes:
        index: Its number, after ``CUDA_VISIBLE_DEVICES``.
        name: Its name.
        sm: Its compute capability, such as (8, 7).
        memory_bytes: All of its memory [bytes].
        integrated: Whether it shares its memory with the processor, as on a Jetson.
        driver: The CUDA version that the driver brings, such as (12, 6).
    """

    index: int
    name: str
    sm: tuple[int, int]
    memory_bytes: int
    integrated: bool
    driver: tuple[int, int]

    @property
    def cuda(self) -> str:
        """The driver's CUDA version as text: ``12.6``."""
        return ".".join(map(str, self.driver))

    @property
    def capability(self) -> str:
        """The compute capability as text: ``8.7``."""
        return ".".join(map(str, self.sm))

    def free_bytes(self) -> int | None:
        """Memory that is free now [bytes], where it can be told without a CUDA context.

        That is on integrated GPUs, whose memory is the machine's. The kernel's own estimate is taken, which
        counts what it would give back (CUDA's does not). None on others.
        """
        if not self.integrated:
            return None
        try:
            found = re.search(
                r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"), re.MULTILINE
            )
        except (OSError, UnicodeDecodeError):
            return None
        return int(found[1]) * 1024 if found else None


def find_device(index: int = 0, least_cuda: tuple[int, int] | None = None) -> CudaDevice:
    """Finds a GPU through the CUDA driver.

    Args:
        index: Its number, after ``CUDA_VISIBLE_DEVICES``.
        least_cuda: The oldest CUDA version of the driver that will do.

    Raises:
        BackendError: There is no driver, no such device, or the driver is broken or too old.
    """
    driver = _Driver(_library())
    driver.start()
    version = driver.version()
    if least_cuda is not None and version < least_cuda:
        least = ".".join(map(str, least_cuda))
        raise BackendError(
            f"the NVIDIA driver is too old: it brings CUDA {version[0]}.{version[1]}",
            expected=f"CUDA {least} or later",
            fix=f"update the driver, or install the packages made for CUDA {version[0]}",
        )
    count = driver.count()
    if not 0 <= index < count:
        if count == 0:
            raise _no_device()
        raise BackendError(f"there is no GPU number {index}", expected=f"a number from 0 to {count - 1}")
    return driver.device(index, version)


def find_device_or_none() -> CudaDevice | None:
    """The first GPU, or None where there is none that works."""
    try:
        return find_device()
    except BackendError:
        return None


class _Driver:
    """The few calls of the driver that are needed; every one is checked."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def start(self) -> None:
        code = self._call("cuInit", ctypes.c_uint(0))
        if code == _NO_DEVICE:
            raise _no_device()
        if code == _STUB_LIBRARY:
            raise BackendError(
                "libcuda.so.1 is the toolkit's stand-in for linking, not a driver",
                fix="take .../stubs out of LD_LIBRARY_PATH, and in a container start it with --gpus all",
            )
        if code == _DRIVER_MISMATCH:
            raise BackendError(
                "the NVIDIA driver's library and its kernel module are of different versions",
                fix="restart the machine, or reinstall the driver",
            )
        if code == _SYSTEM_NOT_READY:
            raise BackendError(
                "the NVIDIA driver says that the system is not ready",
                fix="on machines with NVSwitch start nvidia-fabricmanager; else restart the machine",
            )
        self._require("cuInit", code)

    def version(self) -> tuple[int, int]:
        number = self._integer("cuDriverGetVersion")
        return number // 1000, number % 1000 // 10

    def count(self) -> int:
        return self._integer("cuDeviceGetCount")

    def device(self, index: int, version: tuple[int, int]) -> CudaDevice:
        handle = ctypes.c_int(self._integer("cuDeviceGet", ctypes.c_int(index)))
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._require(
            "cuDeviceGetName", self._call("cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), handle)
        )
        memory = ctypes.c_size_t()
        total = "cuDeviceTotalMem_v2"
        self._require(total, self._call(total, ctypes.byref(memory), handle))
        attribute = functools.partial(self._attribute, handle)
        return CudaDevice(
            index=index,
            name=name.value.decode(errors="replace"),
            sm=(attribute(_SM_MAJOR), attribute(_SM_MINOR)),
            memory_bytes=memory.value,
            integrated=bool(attribute(_INTEGRATED)),
            driver=version,
        )

    def _attribute(self, handle: ctypes.c_int, attribute: int) -> int:
        return self._integer("cuDeviceGetAttribute", ctypes.c_int(attribute), handle)

    def _integer(self, function: str, *arguments: Any) -> int:
        """Calls a function whose first argument is where it writes an integer."""
        value = ctypes.c_int()
        self._require(function, self._call(function, ctypes.byref(value), *arguments))
        return value.value

    def _call(self, function: str, *arguments: Any) -> int:
        try:
            called: Callable[..., int] = getattr(self._library, function)
        except AttributeError:
            raise BackendError(
                f"the NVIDIA driver's library has no {function}", fix="reinstall the driver"
            ) from None
        return int(called(*arguments))

    def _require(self, function: str, code: int) -> None:
        if code:
            raise BackendError(
                f"the NVIDIA driver failed ({function} gave {self._name(code)})",
                fix="see whether nvidia-smi works, and restart the machine where it does not",
            )

    def _name(self, code: int) -> str:
        text = ctypes.c_char_p()
        try:
            failed = self._call("cuGetErrorName", ctypes.c_int(code), ctypes.byref(text))
        except BackendError:
            failed = 1
        return f"error {code}" if failed or text.value is None else text.value.decode(errors="replace")


def _library() -> Any:
    """The driver's library."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(
            f"there is no NVIDIA driver ({name}: {_reason(error)})",
            fix="install it, or in a container start it with --gpus all; backend onnxruntime runs without",
        ) from None


def _no_device() -> BackendError:
    return BackendError(
        "the NVIDIA driver finds no GPU",
        fix="see what nvidia-smi lists, and whether CUDA_VISIBLE_DEVICES hides it",
    )


def _reason(error: OSError) -> str:
    """The loader's words without the name of the library that it begins with."""
    text = str(error.strerror or error)
    return text.split(": ", 1)[-1].rstrip(".")
