"""The NVIDIA GPU of this machine, asked of the driver itself: no package is needed, and nothing can crash.

TensorRT must not be asked first: without a GPU its 8.6 runtime ends the process, and others raise errors
that say nothing.
"""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path

from glpn_deploy.errors import BackendError
from glpn_deploy.gpu import cuda_driver as cu
from glpn_deploy.gpu.cuda_driver import CudaDriver, CudaError
from glpn_deploy.reading import memory_sizes

_NAME_BYTES = 256

_MODEL = Path("/proc/device-tree/model")

_NO_GPU = (
    "the NVIDIA driver finds no GPU",
    "see what nvidia-smi lists, and whether CUDA_VISIBLE_DEVICES hides it",
)
_START_FAILURES = {
    cu.CUDA_ERROR_NO_DEVICE: _NO_GPU,
    cu.CUDA_ERROR_STUB_LIBRARY: (
        "libcuda.so.1 is the toolkit's stand-in for linking, not a driver",
        "take .../stubs out of LD_LIBRARY_PATH, and in a container start it with --gpus all",
    ),
    cu.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: (
        "the NVIDIA driver's library and its kernel module are of different versions",
        "restart the machine, or reinstall the driver",
    ),
    cu.CUDA_ERROR_SYSTEM_NOT_READY: (
        "the NVIDIA driver says that the system is not ready",
        "on machines with NVSwitch start nvidia-fabricmanager; else restart the machine",
    ),
}


@dataclasses.dataclass(frozen=True)
class CudaDevice:
    """One GPU.

    Attributes:
        index: Its number, after ``CUDA_VISIBLE_DEVICES``.
        sm: Its compute capability, such as (8, 7).
        memory_bytes: All of its memory [bytes].
        integrated: Whether it shares its memory with the processor, as on a Jetson.
        driver: The CUDA version that the driver brings, such as (12, 6).
        sm_count: Its multiprocessors; 0 where that is not known.
        board: What a Jetson calls itself (``NVIDIA Jetson Orin Nano Developer Kit``): all of them name their
            GPU "Orin". Empty elsewhere.
    """

    index: int
    name: str
    sm: tuple[int, int]
    memory_bytes: int
    integrated: bool
    driver: tuple[int, int]
    sm_count: int = 0
    board: str = ""

    @property
    def cuda(self) -> str:
        """The driver's CUDA version as text: ``12.6``."""
        return ".".join(map(str, self.driver))

    @property
    def capability(self) -> str:
        """The compute capability as text: ``8.7``."""
        return ".".join(map(str, self.sm))

    @property
    def title(self) -> str:
        """What tells it from others: ``Orin (compute capability 8.7, 8 multiprocessors)``."""
        return gpu_title(self.name, self.capability, self.sm_count)

    def free_bytes(self) -> int | None:
        """Memory that is free now [bytes], where it can be told without a CUDA context.

        That is on integrated GPUs, whose memory is the machine's. The kernel's own estimate is taken, which
        counts what it would give back (CUDA's does not). None on others.
        """
        return memory_sizes().get("MemAvailable") if self.integrated else None


def gpu_title(name: str, capability: str, sm_count: int) -> str:
    """A GPU's name with what tells it from others of that name; 0 multiprocessors are not known."""
    count = f", {sm_count} multiprocessors" if sm_count else ""
    return f"{name} (compute capability {capability}{count})"


def find_device(least_cuda: tuple[int, int] | None = None) -> CudaDevice:
    """Finds the first GPU, after ``CUDA_VISIBLE_DEVICES``, through the CUDA driver.

    Args:
        least_cuda: The oldest CUDA version of the driver that will do.

    Raises:
        BackendError: There is no driver, no GPU, or the driver is broken or too old.
    """
    driver = open_driver()
    try:
        number = driver.call("cuDriverGetVersion")
        version = number // 1000, number % 1000 // 10
        if least_cuda is not None and version < least_cuda:
            least = ".".join(map(str, least_cuda))
            raise BackendError(
                f"the NVIDIA driver is too old: it brings CUDA {version[0]}.{version[1]}",
                expected=f"CUDA {least} or later",
                fix=f"update the driver, or install the packages made for CUDA {version[0]}",
            )
        if driver.call("cuDeviceGetCount") == 0:
            raise BackendError(_NO_GPU[0], fix=_NO_GPU[1])
        return _device(driver, version)
    except CudaError as error:
        raise _broken(error) from None


def find_device_or_none() -> CudaDevice | None:
    """The first GPU, or None where there is none that works."""
    try:
        return find_device()
    except BackendError:
        return None


def open_driver() -> CudaDriver:
    """The driver, started."""
    driver = CudaDriver(cu.load_library())
    try:
        driver.call("cuInit", 0)
    except CudaError as error:
        if error.number in _START_FAILURES:
            got, fix = _START_FAILURES[error.number]
            raise BackendError(got, fix=fix) from None
        raise _broken(error) from None
    return driver


def _device(driver: CudaDriver, version: tuple[int, int]) -> CudaDevice:
    handle = driver.call("cuDeviceGet", 0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver.call("cuDeviceGetName", name, _NAME_BYTES, handle)

    def attribute(number: int) -> int:
        return int(driver.call("cuDeviceGetAttribute", number, handle))

    integrated = bool(attribute(cu.CU_DEVICE_ATTRIBUTE_INTEGRATED))
    return CudaDevice(
        index=0,
        name=name.value.decode(errors="replace"),
        sm=(
            attribute(cu.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            attribute(cu.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        ),
        memory_bytes=driver.call("cuDeviceTotalMem_v2", handle),
        integrated=integrated,
        driver=version,
        sm_count=attribute(cu.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        board=_board() if integrated else "",
    )


def _board() -> str:
    """The board's own name, where the machine has one."""
    try:
        return _MODEL.read_bytes()[:_NAME_BYTES].rstrip(b"\0").decode(errors="replace").strip()
    except OSError:
        return ""


def _broken(error: CudaError) -> BackendError:
    return BackendError(
        f"the NVIDIA driver failed: {error.got}",
        fix="see whether nvidia-smi works, and restart the machine where it does not",
    )
