"""A GPU made of numpy: memory, streams, events and graphs as `cuda.bindings.runtime` gives them.

Made to find mistakes. Device memory lies at addresses of its own and every access is checked; work on a
stream is done when the stream is waited for and not before; a graph runs with the addresses it was captured
with; what is freed twice, freed never or used after it was freed is kept account of. Function names,
signatures and numbers are those of cuda-python 12.9 and 13.4; `differences` compares them with the real one.
"""
# ruff: noqa: N801, N802, N803, N815 - the real names

from __future__ import annotations

import enum
import inspect
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

Work = Callable[[], None]


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidMemcpyDirection = 21
    cudaErrorInsufficientDriver = 35
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaMemoryType(enum.IntEnum):
    cudaMemoryTypeUnregistered = 0
    cudaMemoryTypeHost = 1
    cudaMemoryTypeDevice = 2
    cudaMemoryTypeManaged = 3


OK = cudaError_t.cudaSuccess
LEGACY = 1  # the handle of the default stream


class FaultError(Exception):
    """Work that touched memory it must not touch."""


class _FailureError(Exception):
    def __init__(self, code: cudaError_t) -> None:
        self.code = code


class cudaPointerAttributes:
    def __init__(self, kind: cudaMemoryType, device: int) -> None:
        self.type, self.device = kind, device


class _Stream:
    def __init__(self, device: int) -> None:
        self.device = device
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        self.broken = False


def _api(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """A function of the runtime: a tuple that starts with the status; None for values where it failed."""
    name = function.__name__
    results = {"cudaMemGetInfo": 2} | dict.fromkeys(_NO_VALUE, 0)

    def call(self: CudaSimulator, *arguments: Any) -> tuple[Any, ...]:
        inspect.signature(function).bind(self, *arguments)
        with self.lock:
            self.calls.append(name)
            nothing = (None,) * results.get(name, 1)
            if name not in ("cudaGetLastError", "cudaGetErrorString"):
                if self.sticky is not None:
                    return (self.sticky, *nothing)
                fails = self.fails.get(name)
                if fails is not None:
                    fails[0] -= 1
                    if fails[0] == 0:
                        self.last = fails[1]
                        return (fails[1], *nothing)
            try:
                value = function(self, *arguments)
            except _FailureError as failure:
                self.last = OK if name == "cudaGetLastError" else failure.code
                return (failure.code, *nothing)
            return (OK,) if not nothing else (OK, *(value if isinstance(value, tuple) else (value,)))

    call.__name__, call.__wrapped__ = name, function  # type: ignore[attr-defined]
    return call


_NO_VALUE = (
    "cudaSetDevice",
    "cudaGetLastError",
    "cudaFree",
    "cudaFreeHost",
    "cudaMemcpyAsync",
    "cudaMemsetAsync",
    "cudaStreamDestroy",
    "cudaStreamSynchronize",
    "cudaStreamWaitEvent",
    "cudaStreamBeginCapture",
    "cudaGraphLaunch",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaEventRecord",
    "cudaEventDestroy",
)


class CudaSimulator:
    """Stands where the module `cuda.bindings.runtime` stands.

    Attributes:
        fails: ``{"cudaMalloc": [2, code]}`` makes the second call from now on fail.
        misuse: What no program may do, in words; to be empty at the end of a test.
        calls: Names of the functions called.
        now: Simulated time [ms].
    """

    cudaError_t, cudaMemcpyKind, cudaMemoryType = cudaError_t, cudaMemcpyKind, cudaMemoryType
    cudaStreamCaptureMode = cudaStreamCaptureMode

    def __init__(self, devices: int = 1, memory_bytes: int = 1 << 30) -> None:
        self.devices, self.room = devices, memory_bytes
        self.lock = threading.RLock()
        self.fails: dict[str, list[Any]] = {}
        self.misuse: list[str] = []
        self.calls: list[str] = []
        self.now = 0.0
        self.sticky: cudaError_t | None = None
        self.last = OK
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

    def fail(self, name: str, nth: int = 1, code: cudaError_t = cudaError_t.cudaErrorInvalidValue) -> None:
        self.fails[name] = [nth, code]

    def current(self) -> int:
        return getattr(self._thread, "device", 0)

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
    def cudaGetDeviceCount(self) -> Any:
        return self.devices

    @_api
    def cudaSetDevice(self, device: int) -> Any:
        if not 0 <= device < self.devices:
            raise _FailureError(cudaError_t.cudaErrorInvalidDevice)
        self._thread.device = device

    @_api
    def cudaGetLastError(self) -> Any:
        self.last, last = OK, self.last
        raise _FailureError(last)

    @_api
    def cudaGetErrorString(self, error: cudaError_t) -> Any:
        return f"text of {int(error)}".encode()

    @_api
    def cudaMalloc(self, size: int) -> Any:
        if any(stream.captured is not None for stream in self._streams.values()):
            raise _FailureError(cudaError_t.cudaErrorStreamCaptureUnsupported)
        if sum(content.size for content, _ in self._device.values()) + size > self.room:
            raise _FailureError(cudaError_t.cudaErrorMemoryAllocation)
        address = next(self._next)
        self._device[address] = (np.full(size, 0xAB, np.uint8), self.current())
        return address

    @_api
    def cudaFree(self, devPtr: int) -> Any:
        self._forget(self._device, devPtr, "cudaFree")
        if any(stream.waiting for stream in self._streams.values()):
            self.misuse.append("cudaFree while work was waiting")

    @_api
    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        content = np.full(size, 0xCD, np.uint8)
        self._host[content.ctypes.data] = content
        if flags & 2:
            self._mapped[next(self._next)] = content.ctypes.data
        return content.ctypes.data

    @_api
    def cudaFreeHost(self, ptr: int) -> Any:
        self._forget(self._host, ptr, "cudaFreeHost")
        self._mapped = {device: host for device, host in self._mapped.items() if host != ptr}

    @_api
    def cudaHostGetDevicePointer(self, pHost: int, flags: int) -> Any:
        for device, host in self._mapped.items():
            if host == pHost:
                return device
        raise _FailureError(cudaError_t.cudaErrorInvalidValue)

    @_api
    def cudaPointerGetAttributes(self, ptr: int) -> Any:
        for base, (content, device) in self._device.items():
            if base <= ptr < base + content.size:
                return cudaPointerAttributes(cudaMemoryType.cudaMemoryTypeDevice, device)
        if ptr in self._mapped or ptr in self._host:
            return cudaPointerAttributes(cudaMemoryType.cudaMemoryTypeHost, 0)
        return cudaPointerAttributes(cudaMemoryType.cudaMemoryTypeUnregistered, -2)

    @_api
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int) -> Any:
        def is_host(address: int) -> bool:
            return any(base <= address < base + block.size for base, block in self._host.items())

        kinds = cudaMemcpyKind
        known = {
            (True, True): kinds.cudaMemcpyHostToHost,
            (False, True): kinds.cudaMemcpyHostToDevice,
            (True, False): kinds.cudaMemcpyDeviceToHost,
            (False, False): kinds.cudaMemcpyDeviceToDevice,
        }
        if kind not in (kinds.cudaMemcpyDefault, known[is_host(dst), is_host(src)]):
            raise _FailureError(cudaError_t.cudaErrorInvalidMemcpyDirection)

        def work() -> None:
            self._bytes(dst, count)[:] = self._bytes(src, count)
            self.now += count / 1e6

        self.enqueue(stream, work)

    @_api
    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: int) -> Any:
        def work() -> None:
            self.memory(devPtr, count)[:] = value

        self.enqueue(stream, work)

    # Streams, events, graphs --------------------------------------------------------------------------

    @_api
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        if flags != 1:
            self.misuse.append("a stream that waits for the default stream")
        return self._new(self._streams, _Stream(self.current()))

    @_api
    def cudaStreamDestroy(self, stream: int) -> Any:
        self._forget(self._streams, int(stream), "cudaStreamDestroy")

    @_api
    def cudaStreamSynchronize(self, stream: int) -> Any:
        found = self._stream(stream)
        if found.captured is not None:
            found.broken = True
            raise _FailureError(cudaError_t.cudaErrorStreamCaptureUnsupported)
        self._drain(found)

    @_api
    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        if event not in self._events:
            raise _FailureError(cudaError_t.cudaErrorInvalidResourceHandle)
        producer = self._recorded.get(event)

        def work() -> None:
            if producer is not None:
                self._drain(self._stream(producer))

        self.enqueue(stream, work)

    @_api
    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> Any:
        if mode != cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            self.misuse.append("a capture that other threads can break")
        found = self._stream(stream)
        found.captured, found.broken = [], False

    @_api
    def cudaStreamEndCapture(self, stream: int) -> Any:
        found = self._stream(stream)
        captured, found.captured = found.captured, None
        if captured is None:
            raise _FailureError(cudaError_t.cudaErrorInvalidValue)
        if found.broken:
            raise _FailureError(cudaError_t.cudaErrorStreamCaptureInvalidated)
        return self._new(self._graphs, captured)

    @_api
    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        if graph not in self._graphs:
            raise _FailureError(cudaError_t.cudaErrorInvalidValue)
        return self._new(self._launchable, list(self._graphs[graph]))

    @_api
    def cudaGraphLaunch(self, graphExec: int, stream: int) -> Any:
        if graphExec not in self._launchable:
            raise _FailureError(cudaError_t.cudaErrorInvalidValue)
        for work in self._launchable[graphExec]:
            self.enqueue(stream, work)

    @_api
    def cudaGraphDestroy(self, graph: int) -> Any:
        self._forget(self._graphs, graph, "cudaGraphDestroy")

    @_api
    def cudaGraphExecDestroy(self, graphExec: int) -> Any:
        self._forget(self._launchable, graphExec, "cudaGraphExecDestroy")

    @_api
    def cudaEventCreate(self) -> Any:
        return self._new(self._events, None)

    @_api
    def cudaEventDestroy(self, event: int) -> Any:
        self._forget(self._events, event, "cudaEventDestroy")

    @_api
    def cudaEventRecord(self, event: int, stream: int) -> Any:
        if event not in self._events:
            raise _FailureError(cudaError_t.cudaErrorInvalidResourceHandle)
        self._events[event] = None
        self._recorded[event] = int(stream)

        def work() -> None:
            if event in self._events:  # CUDA lets one be destroyed while it waits
                self._events[event] = self.now

        self.enqueue(stream, work)

    @_api
    def cudaEventElapsedTime(self, start: int, end: int) -> Any:
        times = [self._events[event] for event in (start, end)]
        if times[0] is None or times[1] is None:
            raise _FailureError(cudaError_t.cudaErrorNotReady)
        return times[1] - times[0]

    # Inside ------------------------------------------------------------------------------------------

    def _new(self, table: dict[int, Any], value: Any) -> int:
        handle = next(self._handles)
        table[handle] = value
        return handle

    def _forget(self, table: dict[int, Any], key: int, name: str) -> None:
        if key not in table:
            self.misuse.append(f"{name} of what is not there")
            raise _FailureError(cudaError_t.cudaErrorInvalidValue)
        del table[key]

    def _stream(self, stream: int) -> _Stream:
        if int(stream) not in self._streams:
            raise _FailureError(cudaError_t.cudaErrorInvalidResourceHandle)
        return self._streams[int(stream)]

    def _drain(self, stream: _Stream) -> None:
        while stream.waiting:
            work = stream.waiting.pop(0)
            try:
                work()
            except FaultError as fault:
                self.misuse.append(f"touched {fault}")
                stream.waiting.clear()
                self.sticky = cudaError_t.cudaErrorIllegalAddress  # of everything from now on
                raise _FailureError(self.sticky) from None

    def _bytes(self, address: int, count: int) -> np.ndarray:
        for base, content in self._host.items():
            if base <= address and address + count <= base + content.size:
                return content[address - base : address - base + count]
        return self.memory(address, count)


def differences(real: Any) -> list[str]:
    """Where the simulator's names, numbers of arguments or values are not those of the real bindings."""
    found = []
    for name in dir(CudaSimulator):
        if not name.startswith("cuda"):
            continue
        mine, theirs = getattr(CudaSimulator, name), getattr(real, name, None)
        if theirs is None:
            found.append(f"there is no {name}")
        elif isinstance(mine, enum.EnumMeta):
            found += [
                f"{name}.{member.name} is {int(getattr(theirs, member.name))}, not {member.value}"
                for member in mine
                if int(getattr(theirs, member.name)) != member.value
            ]
        else:
            head = str(theirs.__doc__).splitlines()[0]
            inside = head[head.index("(") + 1 : head.rindex(")")]
            wanted = [part.split(":")[0].split()[-1] for part in inside.split(",") if part.strip()]
            have = list(inspect.signature(mine.__wrapped__).parameters)[1:]
            if wanted != have:
                found.append(f"{name}{wanted}, not {have}")
    return found
