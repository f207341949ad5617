"""A GPU made of numpy: memory, streams, events and graphs as the CUDA driver's library gives them.

Made to find mistakes. Device memory lies at addresses of its own and every access is checked; work on a
stream is done when the stream is waited for and not before; a graph runs with the addresses it was captured
with; a thread without a context is refused; what is freed twice, freed never or used after it was freed is
kept account of. `library` stands where the driver's library stands: C functions of the package's prototypes,
which `tests/glpn_deploy/gpu/test_cuda_driver.py` compares with cuda.h, as it does the numbers of `CUresult`.
"""
# ruff: noqa: N802 - the real names

from __future__ import annotations

import ctypes
import enum
import functools
import itertools
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from glpn_deploy.gpu.cuda_driver import SIGNATURES, CudaDriver

Work = Callable[[], None]


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


MEMORY_TYPE, DEVICE_ORDINAL = 2, 9  # CUpointer_attribute
HOST, DEVICE = 1, 2  # CUmemorytype
LEGACY = 1  # the handle of the default stream
CONTEXT = 0xC0  # the handle of device 0's primary context; device 1's is the next


class FaultError(Exception):
    """Work that touched memory it must not touch."""


class _FailureError(Exception):
    def __init__(self, code: CUresult) -> None:
        self.code = code


class _Stream:
    def __init__(self, device: int) -> None:
        self.device = device
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        self.broken = False


_ANYWHERE = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuPointerGetAttribute")
_OF_ERRORS = ("cuGetErrorName", "cuGetErrorString")


def _api(function: Callable[..., Any]) -> Callable[..., int]:
    """A function of the library: takes the parameters it does not write to, returns what it writes."""
    name = function.__name__

    def call(self: CudaSimulator, *arguments: Any) -> int:
        written = [n for n, parameter in enumerate(SIGNATURES[name]) if parameter.written]
        given = [argument for n, argument in enumerate(arguments) if n not in written]
        with self.lock:
            if name not in _OF_ERRORS:
                self.calls.append(name)
                if self.sticky is not None:
                    return self.sticky
                fails = self.fails.get(name)
                if fails is not None:
                    fails[0] -= 1
                    if fails[0] == 0:
                        return int(fails[1])
                if name not in _ANYWHERE and self.context() is None:
                    return CUresult.CUDA_ERROR_INVALID_CONTEXT
            try:
                value = function(self, *given)
            except _FailureError as failure:
                return failure.code
            for index in written:
                arguments[index][0] = value
            return CUresult.CUDA_SUCCESS

    return call


class CudaSimulator:
    """Stands where the driver's library stands.

    Attributes:
        library: The library.
        fails: ``{"cuMemAlloc_v2": [2, code]}`` makes the second call from now on fail.
        misuse: What no program may do, in words; to be empty at the end of a test.
        calls: Names of the functions called.
        now: Simulated time [ms].
    """

    CUresult = CUresult

    def __init__(self, devices: int = 1, memory_bytes: int = 1 << 30) -> None:
        self.devices, self.room = devices, memory_bytes
        self.lock = threading.RLock()
        self.fails: dict[str, list[Any]] = {}
        self.misuse: list[str] = []
        self.calls: list[str] = []
        self.now = 0.0
        self.sticky: CUresult | None = None
        self._thread = threading.local()
        self._next = itertools.count(0x7000_0000_0000, 1 << 32)
        self._handles = itertools.count(0x500, 0x10)
        self._device: dict[int, tuple[np.ndarray, int]] = {}  # address: content, device
        self._host: dict[int, np.ndarray] = {}
        self._mapped: dict[int, int] = {}  # device's address: host's
        self._streams = {LEGACY: _Stream(0)}
        self._events: dict[int, float | None] = {}
        self._recorded: dict[int, int] = {}  # event: stream it waits in
        self._graphs: dict[int, list[Work]] = {}
        self._launchable: dict[int, list[Work]] = {}
        self.library = types.SimpleNamespace(
            **{name: _c_function(name, getattr(self, name)) for name in SIGNATURES if hasattr(self, name)}
        )

    # For tests ---------------------------------------------------------------------------------------

    def leaks(self) -> dict[str, int]:
        """What is held now, by kind."""
        held = {
            "device memory": len(self._device),
            "host memory": len(self._host),
            "streams": len(self._streams) - 1,
            "events": len(self._events),
            "graphs": len(self._graphs) + len(self._launchable),
        }
        return {name: count for name, count in held.items() if count}

    def fail(self, name: str, nth: int = 1, code: Any = CUresult.CUDA_ERROR_INVALID_VALUE) -> None:
        self.fails[name] = [nth, code]

    def context(self) -> int | None:
        """The calling thread's context."""
        return getattr(self._thread, "context", None)

    def current(self) -> int:
        """The calling thread's device."""
        return (self.context() or CONTEXT) - CONTEXT

    def driver(self) -> CudaDriver:
        """The driver in front of the library, which has been started."""
        return CudaDriver(self.library)

    def memory(self, address: int, nbytes: int) -> np.ndarray:
        """The bytes at an address of the device, a view.

        Raises:
            FaultError: They are not all in one block that is there.
        """
        for base, (content, _) in self._device.items():
            if base <= address and address + nbytes <= base + content.size:
                return content[address - base : address - base + nbytes]
        for base, host in self._mapped.items():
            content = self._host.get(host, np.empty(0, np.uint8))
            if base <= address and address + nbytes <= base + content.size:
                return content[address - base : address - base + nbytes]
        raise FaultError(f"{nbytes} bytes at {address:#x} on the device")

    def put(self, array: np.ndarray, device: int = 0) -> int:
        """An array of somebody else's on the device; its address."""
        address = next(self._next)
        self._device[address] = (np.frombuffer(array.tobytes(), np.uint8).copy(), device)
        return address

    def take_back(self, address: int) -> None:
        del self._device[address]

    def enqueue(self, stream: int, work: Work) -> None:
        """Puts work on a stream, or into the graph that is being captured."""
        found = self._stream(stream)
        (found.waiting if found.captured is None else found.captured).append(work)

    def capturing(self, stream: int) -> bool:
        return self._stream(stream).captured is not None

    def stream_device(self, stream: int) -> int:
        return self._stream(stream).device

    # Device and memory --------------------------------------------------------------------------------

    @_api
    def cuInit(self, flags: int) -> Any: ...

    @_api
    def cuDeviceGet(self, ordinal: int) -> Any:
        if not 0 <= ordinal < self.devices:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_DEVICE)
        return 40 + ordinal  # a handle is not the number

    @_api
    def cuDevicePrimaryCtxRetain(self, dev: int) -> Any:
        return CONTEXT + dev - 40

    @_api
    def cuCtxSetCurrent(self, ctx: int | None) -> Any:
        if ctx is not None and not CONTEXT <= ctx < CONTEXT + self.devices:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        self._thread.context = ctx

    @_api
    def cuGetErrorName(self, error: int) -> Any:
        return _text(CUresult(error).name)

    @_api
    def cuGetErrorString(self, error: int) -> Any:
        return _text(f"text of {error}")

    @_api
    def cuMemAlloc_v2(self, size: int) -> Any:
        if any(stream.captured is not None for stream in self._streams.values()):
            raise _FailureError(CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        if sum(content.size for content, _ in self._device.values()) + size > self.room:
            raise _FailureError(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        address = next(self._next)
        self._device[address] = (np.full(size, 0xAB, np.uint8), self.current())
        return address

    @_api
    def cuMemFree_v2(self, address: int) -> Any:
        self._forget(self._device, address, "cuMemFree_v2")
        if any(stream.waiting for stream in self._streams.values()):
            self.misuse.append("cuMemFree_v2 while work was waiting")

    @_api
    def cuMemHostAlloc(self, size: int, flags: int) -> Any:
        content = np.full(size, 0xCD, np.uint8)
        self._host[content.ctypes.data] = content
        if flags & 2:
            self._mapped[next(self._next)] = content.ctypes.data
        return content.ctypes.data

    @_api
    def cuMemFreeHost(self, ptr: int) -> Any:
        self._forget(self._host, ptr, "cuMemFreeHost")
        self._mapped = {device: host for device, host in self._mapped.items() if host != ptr}

    @_api
    def cuMemHostGetDevicePointer_v2(self, host_address: int, flags: int) -> Any:
        for device, host in self._mapped.items():
            if host == host_address:
                return device
        raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)

    @_api
    def cuPointerGetAttribute(self, data: int, attribute: int, ptr: int) -> Any:
        for base, (content, device) in self._device.items():
            if base <= ptr < base + content.size:
                found = {MEMORY_TYPE: DEVICE, DEVICE_ORDINAL: device}
                break
        else:
            if ptr not in self._mapped and ptr not in self._host:
                raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)
            found = {MEMORY_TYPE: HOST, DEVICE_ORDINAL: 0}
        ctypes.c_int.from_address(data).value = found[attribute]

    @_api
    def cuMemcpyAsync(self, dst: int, src: int, count: int, stream: int) -> Any:
        self._copy(dst, src, count, stream)

    @_api
    def cuMemcpyHtoDAsync_v2(self, target: int, source: int, count: int, stream: int) -> Any:
        self._copy(target, source, count, stream, to_host=False, from_host=True)

    @_api
    def cuMemcpyDtoHAsync_v2(self, target: int, source: int, count: int, stream: int) -> Any:
        self._copy(target, source, count, stream, to_host=True, from_host=False)

    @_api
    def cuMemsetD8Async(self, address: int, value: int, count: int, stream: int) -> Any:
        def work() -> None:
            self.memory(address, count)[:] = value

        self.enqueue(stream, work)

    # Streams, events, graphs --------------------------------------------------------------------------

    @_api
    def cuStreamCreate(self, flags: int) -> Any:
        if flags != 1:
            self.misuse.append("a stream that waits for the default stream")
        return self._new(self._streams, _Stream(self.current()))

    @_api
    def cuStreamDestroy_v2(self, stream: int) -> Any:
        self._forget(self._streams, int(stream), "cuStreamDestroy_v2")

    @_api
    def cuStreamSynchronize(self, stream: int) -> Any:
        found = self._stream(stream)
        if found.captured is not None:
            found.broken = True
            raise _FailureError(CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        self._drain(found)

    @_api
    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        if event not in self._events:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_HANDLE)
        producer = self._recorded.get(event)

        def work() -> None:
            if producer is not None:
                self._drain(self._stream(producer))

        self.enqueue(stream, work)

    @_api
    def cuStreamBeginCapture_v2(self, stream: int, mode: int) -> Any:
        if mode != 1:  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            self.misuse.append("a capture that other threads can break")
        found = self._stream(stream)
        found.captured, found.broken = [], False

    @_api
    def cuStreamEndCapture(self, stream: int) -> Any:
        found = self._stream(stream)
        captured, found.captured = found.captured, None
        if captured is None:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)
        if found.broken:
            raise _FailureError(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        return self._new(self._graphs, captured)

    @_api
    def cuGraphInstantiateWithFlags(self, graph: int, flags: int) -> Any:
        if graph not in self._graphs:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)
        return self._new(self._launchable, list(self._graphs[graph]))

    @_api
    def cuGraphLaunch(self, launchable: int, stream: int) -> Any:
        if launchable not in self._launchable:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)
        for work in self._launchable[launchable]:
            self.enqueue(stream, work)

    @_api
    def cuGraphDestroy(self, graph: int) -> Any:
        self._forget(self._graphs, graph, "cuGraphDestroy")

    @_api
    def cuGraphExecDestroy(self, launchable: int) -> Any:
        self._forget(self._launchable, launchable, "cuGraphExecDestroy")

    @_api
    def cuEventCreate(self, flags: int) -> Any:
        return self._new(self._events, None)

    @_api
    def cuEventDestroy_v2(self, event: int) -> Any:
        self._forget(self._events, event, "cuEventDestroy_v2")

    @_api
    def cuEventRecord(self, event: int, stream: int) -> Any:
        if event not in self._events:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_HANDLE)
        self._events[event] = None
        self._recorded[event] = int(stream)

        def work() -> None:
            if event in self._events:  # CUDA lets one be destroyed while it waits
                self._events[event] = self.now

        self.enqueue(stream, work)

    @_api
    def cuEventElapsedTime(self, start: int, end: int) -> Any:
        times = [self._events[event] for event in (start, end)]
        if times[0] is None or times[1] is None:
            raise _FailureError(CUresult.CUDA_ERROR_NOT_READY)
        return times[1] - times[0]

    # Inside ------------------------------------------------------------------------------------------

    def _copy(
        self,
        target: int,
        source: int,
        count: int,
        stream: int,
        to_host: bool | None = None,
        from_host: bool | None = None,
    ) -> None:
        for address, wanted in ((target, to_host), (source, from_host)):
            is_host = any(base <= address < base + block.size for base, block in self._host.items())
            if wanted is not None and wanted is not is_host:
                raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)

        def work() -> None:
            self._bytes(target, count)[:] = self._bytes(source, count)
            self.now += count / 1e6

        self.enqueue(stream, work)

    def _new(self, table: dict[int, Any], value: Any) -> int:
        handle = next(self._handles)
        table[handle] = value
        return handle

    def _forget(self, table: dict[int, Any], key: int, name: str) -> None:
        if key not in table:
            self.misuse.append(f"{name} of what is not there")
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_VALUE)
        del table[key]

    def _stream(self, stream: int) -> _Stream:
        if int(stream) not in self._streams:
            raise _FailureError(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return self._streams[int(stream)]

    def _drain(self, stream: _Stream) -> None:
        while stream.waiting:
            work = stream.waiting.pop(0)
            try:
                work()
            except FaultError as fault:
                self.misuse.append(f"touched {fault}")
                stream.waiting.clear()
                self.sticky = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS  # of everything from now on
                raise _FailureError(self.sticky) from None

    def _bytes(self, address: int, count: int) -> np.ndarray:
        for base, content in self._host.items():
            if base <= address and address + count <= base + content.size:
                return content[address - base : address - base + count]
        return self.memory(address, count)


@functools.cache
def _buffer(text: str) -> Any:
    return ctypes.create_string_buffer(text.encode())  # kept, since its address is given out


def _text(text: str) -> int:
    return ctypes.addressof(_buffer(text))


def _c_function(name: str, function: Callable[..., int]) -> Any:
    """A C function, so that ctypes checks what it is given."""
    parameters = [
        ctypes.POINTER(parameter.type) if parameter.written else parameter.type
        for parameter in SIGNATURES[name]
    ]
    return ctypes.CFUNCTYPE(ctypes.c_int, *parameters)(functools.partial(_number, function))


def _number(function: Callable[..., int], *arguments: Any) -> int:
    return int(function(*arguments))
