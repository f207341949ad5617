"""CUDA memory on both sides, streams, and graphs of enqueued work, through the driver."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glpn_deploy.gpu import cuda_driver as cu
from glpn_deploy.gpu.cuda_device import open_driver
from glpn_deploy.gpu.cuda_driver import CudaError


class Cuda:
    """The CUDA driver on one device, in its primary context: TensorRT's, torch's and CuPy's as well.

    The context is never given back: what TensorRT keeps lives in it until the process ends.

    Args:
        index: The device, after ``CUDA_VISIBLE_DEVICES``.

    Attributes:
        call: Calls a function of the driver; a failure is raised as `CudaError`.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.call = open_driver().call
        self._context = self.call("cuDevicePrimaryCtxRetain", self.call("cuDeviceGet", index))

    def release(self, name: str, *arguments: Any) -> None:
        """Calls a function that frees something; after a fault of the GPU all of them fail, without harm."""
        with contextlib.suppress(CudaError):
            self.call(name, *arguments)

    def use(self) -> None:
        """Makes the context the calling thread's; a new thread has none, and others may change it."""
        self.call("cuCtxSetCurrent", self._context)

    def stream(self, owner: contextlib.ExitStack) -> int:
        """A stream of its own, which waits for none and makes none wait; its handle."""
        stream = int(self.call("cuStreamCreate", cu.CU_STREAM_NON_BLOCKING))
        owner.callback(self.release, "cuStreamDestroy_v2", stream)
        return stream

    def event(self, owner: contextlib.ExitStack) -> int:
        """An event that can be timed; its handle."""
        event = int(self.call("cuEventCreate", cu.CU_EVENT_DEFAULT))
        owner.callback(self.release, "cuEventDestroy_v2", event)
        return event

    def synchronize(self, stream: int) -> None:
        """Waits until everything on a stream is done."""
        self.call("cuStreamSynchronize", stream)

    def allocate(self, owner: contextlib.ExitStack, nbytes: int) -> int:
        """Memory on the device; its address."""
        address = int(self.call("cuMemAlloc_v2", nbytes))
        owner.callback(self.release, "cuMemFree_v2", address)
        return address

    def attribute(self, address: int, attribute: int) -> int:
        """An integer attribute of memory that CUDA knows."""
        value = ctypes.c_int()
        self.call("cuPointerGetAttribute", ctypes.byref(value), attribute, address)
        return value.value


class Channel:
    """The memory of one tensor on both sides: pinned host memory with device memory, or one mapped block.

    Mapped memory is seen by the CPU and the GPU alike: on integrated GPUs, where both share the same
    memory, nothing is copied.

    Args:
        owner: Frees it.
        nbytes: Room for the largest tensor [bytes].
        mapped: Take one block for both sides.
    """

    def __init__(self, cuda: Cuda, owner: contextlib.ExitStack, nbytes: int, mapped: bool) -> None:
        self._cuda, self.nbytes, self.mapped = cuda, nbytes, mapped
        flags = cu.CU_MEMHOSTALLOC_PORTABLE | (cu.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0)
        self._host = int(cuda.call("cuMemHostAlloc", nbytes, flags))
        owner.callback(cuda.release, "cuMemFreeHost", self._host)
        if mapped:
            self.address = int(cuda.call("cuMemHostGetDevicePointer_v2", self._host, 0))
        else:
            self.address = cuda.allocate(owner, nbytes)

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
            self._cuda.call("cuMemcpyHtoDAsync_v2", self.address, self._host, nbytes, stream)

    def download(self, nbytes: int, stream: int) -> None:
        """Enqueues the copy to the host."""
        if not self.mapped:
            self._cuda.call("cuMemcpyDtoHAsync_v2", self._host, self.address, nbytes, stream)

    def spoil(self, nbytes: int, stream: int) -> None:
        """Enqueues filling it with bytes that are NaN in every floating type."""
        self._cuda.call("cuMemsetD8Async", self.address, 0xFF, nbytes, stream)


class CapturedGraph:
    """Work that was recorded from a stream once and is launched as a whole.

    Args:
        enqueue: Puts the work on the stream; the addresses it uses are recorded with it.

    Raises:
        BackendError: It cannot be recorded; the stream is as it was before.
    """

    def __init__(self, cuda: Cuda, stream: int, enqueue: Callable[[], None]) -> None:
        self._cuda, self._stream = cuda, stream
        # Thread-local: what other threads of the program do with CUDA meanwhile is not forbidden.
        mode = cu.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with contextlib.ExitStack() as owner:
            cuda.call("cuStreamBeginCapture_v2", stream, mode)
            try:
                enqueue()
            except BaseException:
                with contextlib.suppress(CudaError):
                    owner.callback(cuda.release, "cuGraphDestroy", _end(cuda, stream))
                raise
            graph = _end(cuda, stream)
            owner.callback(cuda.release, "cuGraphDestroy", graph)
            self._launchable: int | None = int(cuda.call("cuGraphInstantiateWithFlags", graph, 0))

    def launch(self) -> None:
        """Enqueues the recorded work."""
        self._cuda.call("cuGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        """Frees it."""
        if self._launchable is not None:
            self._cuda.release("cuGraphExecDestroy", self._launchable)
            self._launchable = None


def _end(cuda: Cuda, stream: int) -> int:
    return int(cuda.call("cuStreamEndCapture", stream))
