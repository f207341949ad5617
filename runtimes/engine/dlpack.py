"""DLPack capsules read and made with ctypes, for arrays that are already on the GPU and need no torch.

The layout is that of dlpack.h, version 0.x (capsules named ``dltensor``), which every library still speaks.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

CPU, CUDA, CUDA_MANAGED = 1, 2, 13  # DLDeviceType
_KINDS = {0: "i", 1: "u", 2: "f"}  # DLDataTypeCode
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
# By address: the capsule is being taken down when these are called, and must not be counted again.
_dying_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """An array of somebody else's.

    Attributes:
        dtype: Of its elements, or None for one that numpy does not have.
        contiguous: Whether it lies in C order without gaps.
        device: DLPack's device type and number.
        release: Gives it back; to be called once.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    contiguous: bool
    device: tuple[int, int]
    release: Callable[[], None]


def borrow(capsule: Any) -> Borrowed:
    """Takes over what a ``__dlpack__`` method gave."""
    address = _pointer(capsule, _NAME)  # raises where the name is another
    _rename(capsule, _USED)
    managed = _Managed.from_address(address)
    tensor = managed.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = None
    if tensor.lanes == 1 and tensor.code in _KINDS and tensor.bits % 8 == 0:
        try:
            dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")
        except TypeError:
            dtype = None
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None

    def release() -> None:
        if managed.deleter:
            managed.deleter(address)

    return Borrowed(
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        dtype,
        strides is None or lies_packed(shape, strides),
        (tensor.device_type, tensor.device_id),
        release,
    )


_LENT: dict[int, tuple[Any, ...]] = {}  # what must live as long as a tensor that was lent, by its address


def _give_back(address: int) -> None:
    _LENT.pop(address, None)


def _drop_capsule(capsule: int) -> None:
    """A capsule that nobody took over gives back what it held."""
    if _dying_valid(capsule, _NAME):
        _give_back(_dying_pointer(capsule, _NAME))


_GIVE_BACK, _DROP_CAPSULE = _Deleter(_give_back), _Deleter(_drop_capsule)


def lend(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], keep: object
) -> Any:
    """A capsule of an array that lies in C order; ``keep`` is held until it is given back."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    strides = (ctypes.c_int64 * len(shape))(*packed_strides(shape))
    code = next(code for code, kind in _KINDS.items() if kind == dtype.kind)
    tensor = _Tensor(address, *device, len(shape), code, dtype.itemsize * 8, 1, sizes, strides, 0)
    managed = _Managed(tensor, None, _GIVE_BACK)
    where = ctypes.addressof(managed)
    _LENT[where] = (managed, sizes, strides, keep)
    try:
        return _new(where, _NAME, ctypes.cast(_DROP_CAPSULE, ctypes.c_void_p))
    except BaseException:
        _give_back(where)
        raise


def lies_packed(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether strides in elements are those of C order; where a side is 1, any will do."""
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, packed_strides(shape), strict=True))


def packed_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    return tuple(itertools.accumulate((1, *shape[:0:-1]), lambda a, b: a * b))[::-1] if shape else ()
