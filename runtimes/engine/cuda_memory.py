"""CUDA's runtime through cuda-bindings: checked calls, memory on both sides, and graphs of enqueued work."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glpn_deploy.errors import BackendError, MissingDependencyError
from glpn_deploy.gpu.cuda_device import CudaDevice

_FLAG_NON_BLOCKING, _FLAG_PORTABLE, _FLAG_MAPPED = 1, 1, 2  # cudaStreamNonBlocking, cudaHostAlloc...
_INSUFFICIENT_DRIVER, _OUT_OF_MEMORY = 35, 2


class CudaError(BackendError):
    """A call to CUDA that failed.

    Attributes:
        code: The name of CUDA's error (``cudaErrorMemoryAllocation``).
    """

    def __init__(self, got: str, code: str, fix: str = "") -> None:
        super().__init__(got, fix=fix)
        self.code = code


def import_cudart(device: CudaDevice) -> Any:
    """The bindings of the CUDA runtime, once they have been found to work with this machine's driver.

    Args:
        device: The GPU that shall be used, as `glpn_deploy.gpu.cuda_device.find_device` found it.

    Raises:
        MissingDependencyError: cuda-bindings is not installed.
        BackendError: It is made for a later CUDA than the driver is, or is damaged.
    """
    right = f'pip install "cuda-bindings=={device.driver[0]}.*"'
    try:
        try:
            cudart = importlib.import_module("cuda.bindings.runtime")
        except ModuleNotFoundError as error:
            if error.name not in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
                raise
            cudart = importlib.import_module("cuda.cudart")  # cuda-python before 12.6
    except ModuleNotFoundError as error:
        if error.name not in ("cuda", "cuda.cudart"):
            raise BackendError(f"cuda-bindings is damaged ({error})", fix=f"reinstall it: {right}") from error
        raise MissingDependencyError(
            "the tensorrt backend needs cuda-bindings, which is not installed", fix=right
        ) from None
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise BackendError(
            f"cuda-bindings is installed but does not import ({error})", fix=f"reinstall it: {right}"
        ) from error
    status, count = cudart.cudaGetDeviceCount()
    if int(status) == _INSUFFICIENT_DRIVER:
        about = f"the driver is of CUDA {device.driver[0]}.{device.driver[1]}"
        raise BackendError(f"cuda-bindings is made for a later CUDA than the driver: {about}", fix=right)
    if int(status) != 0 or count <= device.index:
        raise BackendError(f"CUDA sees no device {device.index} ({_name(cudart, status)})", fix="nvidia-smi")
    return cudart


class Cuda:
    """The CUDA runtime on one device; every failure is raised.

    Args:
        api: The bindings, from `import_cudart`.
        index: The device.
    """

    def __init__(self, api: Any, index: int) -> None:
        self.api, self.index = api, index

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a function and returns what it gives beside its status: nothing, a value or a tuple.

        Raises:
            CudaError: It failed.
        """
        status, *values = getattr(self.api, name)(*arguments)
        if int(status) != 0:
            self.api.cudaGetLastError()  # CUDA would hand it to whoever asks next in this thread
            code = _name(self.api, status)
            fix = ""
            if int(status) == _OUT_OF_MEMORY:
                fix = "close other programs that use the GPU, or take a smaller batch or image"
            raise CudaError(f"{name} failed with {code} ({_text(self.api, status)})", code, fix)
        return values[0] if len(values) == 1 else tuple(values) or None

    def release(self, name: str, *arguments: Any) -> None:
        """Calls a function that frees something; after a fault of the GPU all of them fail, without harm."""
        with contextlib.suppress(CudaError):
            self.call(name, *arguments)

    def use(self) -> None:
        """Makes the device the calling thread's; a new thread is on device 0, and others may change it."""
        self.call("cudaSetDevice", self.index)

    def stream(self, owner: contextlib.ExitStack) -> int:
        """A stream of its own, which waits for none and makes none wait; its handle."""
        stream = int(self.call("cudaStreamCreateWithFlags", _FLAG_NON_BLOCKING))
        owner.callback(self.release, "cudaStreamDestroy", stream)
        return stream

    def event(self, owner: contextlib.ExitStack) -> int:
        """An event that can be timed; its handle."""
        event = int(self.call("cudaEventCreate"))
        owner.callback(self.release, "cudaEventDestroy", event)
        return event

    def synchronize(self, stream: int) -> None:
        """Waits until everything on a stream is done."""
        self.call("cudaStreamSynchronize", stream)


class Channel:
    """The memory of one tensor on both sides: pinned host memory with device memory, or one mapped block.

    Mapped memory is seen by the CPU and the GPU alike: on integrated GPUs, where both share the same
    memory, nothing is copied.

    Args:
        cuda: The device.
        owner: Frees it.
        nbytes: Room for the largest tensor [bytes].
        mapped: Take one block for both sides.

    Attributes:
        address: Where the GPU finds it.
        nbytes: Its size [bytes].
        mapped: Whether both sides share it.
    """

    def __init__(self, cuda: Cuda, owner: contextlib.ExitStack, nbytes: int, mapped: bool) -> None:
        self._cuda, self.nbytes, self.mapped = cuda, nbytes, mapped
        flags = _FLAG_PORTABLE | (_FLAG_MAPPED if mapped else 0)
        self._host = int(cuda.call("cudaHostAlloc", nbytes, flags))
        owner.callback(cuda.release, "cudaFreeHost", self._host)
        if mapped:
            self.address = int(cuda.call("cudaHostGetDevicePointer", self._host, 0))
        else:
            self.address = int(cuda.call("cudaMalloc", nbytes))
            owner.callback(cuda.release, "cudaFree", self.address)

    def host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The host's side as an array that must not outlive the channel."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert size <= self.nbytes, (shape, self.nbytes)
        block: Any = (ctypes.c_byte * size).from_address(self._host)
        array: NDArray[Any] = np.frombuffer(block, dtype)
        return array.reshape(shape)

    def upload(self, nbytes: int, stream: int) -> None:
        """Enqueues the copy to the GPU."""
        if not self.mapped:
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._cuda.call("cudaMemcpyAsync", self.address, self._host, nbytes, kind, stream)

    def download(self, nbytes: int, stream: int) -> None:
        """Enqueues the copy to the host."""
        if not self.mapped:
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._cuda.call("cudaMemcpyAsync", self._host, self.address, nbytes, kind, stream)

    def spoil(self, nbytes: int, stream: int) -> None:
        """Enqueues filling it with bytes that are NaN in every floating type."""
        self._cuda.call("cudaMemsetAsync", self.address, 0xFF, nbytes, stream)


class CapturedGraph:
    """Work that was recorded from a stream once and is launched as a whole.

    Args:
        cuda: The device.
        stream: The stream's handle.
        enqueue: Puts the work on the stream; the addresses it uses are recorded with it.

    Raises:
        BackendError: It cannot be recorded; the stream is as it was before.
    """

    def __init__(self, cuda: Cuda, stream: int, enqueue: Callable[[], None]) -> None:
        self._cuda, self._stream = cuda, stream
        # Thread-local: what other threads of the program do with CUDA meanwhile is not forbidden.
        mode = cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with contextlib.ExitStack() as owner:
            cuda.call("cudaStreamBeginCapture", stream, mode)
            try:
                enqueue()
            except BaseException:
                with contextlib.suppress(CudaError):
                    owner.callback(cuda.release, "cudaGraphDestroy", _end(cuda, stream))
                raise
            graph = _end(cuda, stream)
            owner.callback(cuda.release, "cudaGraphDestroy", graph)
            self._launchable: int | None = int(cuda.call("cudaGraphInstantiate", graph, 0))

    def launch(self) -> None:
        """Enqueues the recorded work."""
        self._cuda.call("cudaGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        """Frees it."""
        if self._launchable is not None:
            self._cuda.release("cudaGraphExecDestroy", self._launchable)
            self._launchable = None


def _end(cuda: Cuda, stream: int) -> int:
    return int(cuda.call("cudaStreamEndCapture", stream))


def _name(api: Any, status: Any) -> str:
    return getattr(status, "name", None) or str(int(status))


def _text(api: Any, status: Any) -> str:
    found = api.cudaGetErrorString(status)[1]
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)
