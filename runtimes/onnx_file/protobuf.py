"""Reads protobuf's wire format without protobuf, for the little that a runtime must know of an ONNX file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator


class DamagedError(Exception):
    """The bytes are not those of a protobuf message."""


def fields(content: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and span of every length-delimited field of a message; the others are stepped over.

    Raises:
        DamagedError: The span holds no message.
    """
    for number, kind, a, b in _walk(content, start, end):
        if kind == 2:
            yield number, a, b


def integers(content: mmap.mmap | bytes, start: int, end: int) -> dict[int, int]:
    """The integer fields of a message by number; the last one counts, as in protobuf.

    Raises:
        DamagedError: The span holds no message.
    """
    return {number: value for number, kind, value, _ in _walk(content, start, end) if kind == 0}


def _walk(content: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and span of every field; of an integer its value in place of the span."""
    while start < end:
        key, start = _varint(content, start, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise DamagedError
        if kind == 0:
            value, start = _varint(content, start, end)
            yield number, kind, value, 0
            continue
        if kind == 2:
            size, start = _varint(content, start, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:  # groups, which ONNX has none of
            raise DamagedError
        if size > end - start:
            raise DamagedError
        yield number, kind, start, start + size
        start += size


def _varint(content: mmap.mmap | bytes, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end and shift < 70:
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
    raise DamagedError
