"""Arrays that are already on the GPU: how they are taken over, and how depth is lent out there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.gpu import cuda_driver as cu
from glpn_deploy.gpu.cuda_driver import CudaError
from glpn_deploy.runtimes.engine import dlpack
from glpn_deploy.runtimes.engine.cuda_memory import Cuda

_KINDS = "__cuda_array_interface__ (CuPy, Numba, PyTorch) or __dlpack__"


@dataclasses.dataclass(frozen=True)
class DeviceInput:
    """Somebody's array on the GPU.

    Attributes:
        dtype: Of its elements, or None for one that numpy does not have.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None


def shape_of(array: Any) -> tuple[int, ...]:
    """The shape of an array on the GPU."""
    shape = getattr(array, "shape", None)
    if shape is None:
        shape = _interface(array)["shape"]
    return tuple(int(n) for n in shape)


def take(array: Any, cuda: Cuda, stream: int, owner: contextlib.ExitStack) -> DeviceInput:
    """Takes an array over for work on a stream, which waits for what its producer still has to do.

    Args:
        array: It lies in C order on the device.
        owner: Gives it back.
    """
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        found, packed = _from_dlpack(array, cuda, stream, owner)
    else:
        found, packed = _from_interface(array, cuda, stream, owner)
    if not packed:
        raise InputError("the array on the GPU has gaps or is not in C order", fix="make it contiguous first")
    try:
        kind = cuda.attribute(found.address, cu.CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
        index = cuda.attribute(found.address, cu.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
    except CudaError:  # pinned memory does as well
        raise InputError("the array is not in the GPU's memory", fix="hand it to run()") from None
    if kind == cu.CU_MEMORYTYPE_DEVICE and index != cuda.index:
        raise InputError(f"the array is on cuda:{index}", expected=f"one on cuda:{cuda.index}")
    return found


def _from_dlpack(
    array: Any, cuda: Cuda, stream: int, owner: contextlib.ExitStack
) -> tuple[DeviceInput, bool]:
    kind, index = (int(n) for n in array.__dlpack_device__())
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise InputError("the array is not in the GPU's memory", fix="hand it to run()")
    if kind == dlpack.CUDA and index != cuda.index:
        raise InputError(f"the array is on cuda:{index}", expected=f"one on cuda:{cuda.index}")
    try:
        borrowed = dlpack.borrow(array.__dlpack__(stream=stream))
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the array cannot be shared ({error})") from error
    owner.callback(borrowed.release)
    return DeviceInput(borrowed.address, borrowed.shape, borrowed.dtype), borrowed.contiguous


def _from_interface(
    array: Any, cuda: Cuda, stream: int, owner: contextlib.ExitStack
) -> tuple[DeviceInput, bool]:
    about = _interface(array)
    shape, dtype = tuple(int(n) for n in about["shape"]), np.dtype(about["typestr"])
    strides = about.get("strides")
    packed = strides is None or dlpack.lies_packed(shape, tuple(int(n) // dtype.itemsize for n in strides))
    # Version 3 names the stream it is written on, None for one that is done with; earlier ones do not say:
    # libraries that know of no other use the legacy one.
    producer = about.get("stream") if about.get("version", 0) >= 3 else cu.CU_STREAM_LEGACY
    if producer is not None:
        event = cuda.event(owner)
        cuda.call("cuEventRecord", event, int(producer))
        cuda.call("cuStreamWaitEvent", stream, event, 0)
    return DeviceInput(int(about["data"][0]), shape, dtype), packed


def _interface(array: Any) -> dict[str, Any]:
    try:
        about = array.__cuda_array_interface__
    except AttributeError:
        raise InputError(
            f"the input is of type {type(array).__name__}, not an array on the GPU",
            expected=_KINDS,
            fix="hand it to run()",
        ) from None
    except Exception as error:  # whatever the producer raises: torch for tensors that need a gradient
        raise InputError(f"the array cannot be shared ({error})") from error
    return dict(about)


class DeviceDepth:
    """Depth on the GPU, ``(N, H, W)`` [m], in the runtime's own memory.

    It is whole when it is handed out, and valid until the runtime's next call or its closing; copy what
    shall live longer. ``cupy.asarray``, ``numba.cuda.as_cuda_array`` and ``torch.as_tensor`` take it
    through ``__cuda_array_interface__``, ``torch.from_dlpack`` and others through ``__dlpack__``.

    Attributes:
        shape: ``(N, H, W)``.
        dtype: float32, or float16 of an engine whose output is.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        index: int,
        valid: Callable[[], bool],
        fetch: Callable[[], NDArray[np.float32]],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._address, self._index, self._valid, self._fetch = address, index, valid, fetch

    def numpy(self) -> NDArray[np.float32]:
        """A copy on the host, float32.

        Raises:
            BackendError: It is no longer valid.
        """
        self._check()
        return self._fetch()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._check()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._address, False),
            "strides": None,
            "version": 3,
            "stream": None,  # everything is done
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._index

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule; ``stream`` needs no waiting, for everything is done."""
        self._check()
        return dlpack.lend(self._address, self.shape, self.dtype, self.__dlpack_device__(), self)

    def _check(self) -> None:
        if not self._valid():
            raise BackendError(
                "this depth has been overwritten by a later run, or its runtime is closed",
                fix="copy it before the next run",
            )
