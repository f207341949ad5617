"""The CUDA driver's own functions through ctypes: they need no package, and every driver since 12.0 has them.

The prototypes are cuda.h's, by the names that the library exports; tests compare them with the header.
"""

from __future__ import annotations

import ctypes
import re
import sys
from typing import Any, NamedTuple

from glpn_deploy.errors import BackendError

PROTOTYPES = """
    cuInit(unsigned int Flags)
    cuDriverGetVersion(int *driverVersion)
    cuDeviceGetCount(int *count)
    cuDeviceGet(CUdevice *device, int ordinal)
    cuDeviceGetName(char *name, int len, CUdevice dev)
    cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
    cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
    cuGetErrorName(CUresult error, const char **pStr)
    cuGetErrorString(CUresult error, const char **pStr)
    cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
    cuCtxSetCurrent(CUcontext ctx)
    cuCtxSynchronize(void)
    cuMemGetInfo_v2(size_t *free, size_t *total)
    cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
    cuMemFree_v2(CUdeviceptr dptr)
    cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
    cuMemFreeHost(void *p)
    cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
    cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr)
    cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
    cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)
    cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
    cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)
    cuStreamCreate(CUstream *phStream, unsigned int Flags)
    cuStreamDestroy_v2(CUstream hStream)
    cuStreamSynchronize(CUstream hStream)
    cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
    cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
    cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
    cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags)
    cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
    cuGraphDestroy(CUgraph hGraph)
    cuGraphExecDestroy(CUgraphExec hGraphExec)
    cuEventCreate(CUevent *phEvent, unsigned int Flags)
    cuEventRecord(CUevent hEvent, CUstream hStream)
    cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd)
    cuEventDestroy_v2(CUevent hEvent)
"""

# cuda.h, by its names
CUDA_ERROR_OUT_OF_MEMORY = 2
CUDA_ERROR_STUB_LIBRARY = 34
CUDA_ERROR_NO_DEVICE = 100
CUDA_ERROR_SYSTEM_NOT_READY = 802
CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
CU_DEVICE_ATTRIBUTE_INTEGRATED = 18
CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
CU_EVENT_DEFAULT = 0
CU_MEMHOSTALLOC_PORTABLE = 1
CU_MEMHOSTALLOC_DEVICEMAP = 2
CU_MEMORYTYPE_DEVICE = 2
CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2
CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9
CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
CU_STREAM_LEGACY = 1
CU_STREAM_NON_BLOCKING = 1

_TYPES: dict[str, Any] = {
    "float": ctypes.c_float,
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "unsigned char": ctypes.c_ubyte,
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "CUdevice": ctypes.c_int,
    "CUdeviceptr": ctypes.c_ulonglong,
    **dict.fromkeys(("CUcontext", "CUevent", "CUgraph", "CUgraphExec", "CUstream"), ctypes.c_void_p),
    **dict.fromkeys(
        ("CUdevice_attribute", "CUpointer_attribute", "CUresult", "CUstreamCaptureMode"), ctypes.c_int
    ),
    "char *": ctypes.c_void_p,  # a buffer's address, which c_char_p would copy from
    "void *": ctypes.c_void_p,
}
_PARAMETER = re.compile(r"(?:const )?(\w[\w ]*) (\**)\w+$")


class Parameter(NamedTuple):
    """One parameter of a function: the type that is passed, or that is written where it points."""

    type: Any
    written: bool


def _parameter(text: str) -> Parameter:
    found = _PARAMETER.match(text)
    assert found is not None, text
    base, stars = found.groups()
    buffer = base in ("char", "void")  # a pointer to these is handed in
    if stars and buffer:
        base, stars = f"{base} *", stars[1:]
    return Parameter(_TYPES[base], bool(stars))


def _parsed(prototypes: str) -> dict[str, tuple[Parameter, ...]]:
    found = {}
    for line in prototypes.split("\n"):
        name, _, inside = line.strip(" )").partition("(")
        if name:
            parameters = () if inside == "void" else inside.split(", ")
            found[name] = tuple(map(_parameter, parameters))
    return found


SIGNATURES = _parsed(PROTOTYPES)


class CudaError(BackendError):
    """A call to CUDA that failed.

    Attributes:
        code: The name of CUDA's error (``CUDA_ERROR_OUT_OF_MEMORY``).
    """

    def __init__(self, got: str, code: str, number: int, fix: str = "") -> None:
        super().__init__(got, fix=fix)
        self.code, self.number = code, number


class CudaDriver:
    """The driver's functions, each checked."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a function and returns what it writes: nothing, a value or a tuple.

        Args:
            name: Of `PROTOTYPES`.
            arguments: Its parameters without those that it writes to.
        """
        given, written, passed = iter(arguments), [], []
        for parameter in SIGNATURES[name]:
            if parameter.written:
                written.append(parameter.type())
                passed.append(ctypes.byref(written[-1]))
            else:
                passed.append(next(given))
        assert next(given, self) is self, (name, arguments)
        number = self._function(name)(*passed)
        if number:
            raise self._error(name, number)
        values = [value.value or 0 for value in written]
        return values[0] if len(values) == 1 else tuple(values) or None

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            try:
                function = getattr(self._library, name)
            except AttributeError:
                raise BackendError(
                    f"the NVIDIA driver's library has no {name}", fix="reinstall the driver"
                ) from None
            function.argtypes = [
                ctypes.POINTER(parameter.type) if parameter.written else parameter.type
                for parameter in SIGNATURES[name]
            ]
            function.restype = ctypes.c_int
            self._functions[name] = function
        return self._functions[name]

    def _error(self, name: str, number: int) -> CudaError:
        code = self._told("cuGetErrorName", number) or f"error {number}"
        text = self._told("cuGetErrorString", number)
        memory = "close other programs that use the GPU, or take a smaller batch or image"
        fix = memory if number == CUDA_ERROR_OUT_OF_MEMORY else ""
        return CudaError(f"{name} failed with {code}{f' ({text})' if text else ''}", code, number, fix)

    def _told(self, name: str, number: int) -> str:
        """What the driver says of an error; nothing of one that it does not know."""
        text = ctypes.c_void_p()
        try:
            failed = self._function(name)(number, ctypes.byref(text))
        except BackendError:
            failed = 1
        return "" if failed or not text.value else ctypes.string_at(text.value).decode(errors="replace")


def load_library() -> Any:
    """The driver's library."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(
            f"there is no NVIDIA driver ({name}: {_reason(error)})",
            fix="install it, or in a container start it with --gpus all; backend onnxruntime runs without",
        ) from None


def _reason(error: OSError) -> str:
    """The loader's words without the name of the library that it begins with."""
    text = str(error.strerror or error)
    return text.split(": ", 1)[-1].rstrip(".")
