"""Reads protobuf's wire format without protobuf, for the little that a runtime must know of an ONNX file."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator

Field = tuple[int, int, int, int]
"""Number, wire type, and span; of an integer its value (64 bits, unsigned) in place of the span's start."""


class DamagedError(Exception):
    """The bytes are not those of a protobuf message."""


def fields(content: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and span of every length-delimited field of a message; the others are stepped over."""
    for number, kind, a, b in parse(content, start, end) or ():
        if kind == 2:
            yield number, a, b


def integers(content: mmap.mmap | bytes, start: int, end: int) -> dict[int, int]:
    """The integer fields of a message by number; the last one counts, as in protobuf."""
    return {number: value for number, kind, value, _ in parse(content, start, end) or () if kind == 0}


def varints(content: mmap.mmap | bytes, start: int, end: int) -> list[int]:
    """The integers of a packed field, 64 bits, unsigned."""
    found = []
    while start < end:
        value, start = _varint(content, start, end)
        found.append(value)
    return found


def parse(content: mmap.mmap | bytes, start: int, end: int, most: int = sys.maxsize) -> list[Field] | None:
    """The fields of a message, in their order, or None where there are more than ``most``."""
    found: list[Field] = []
    while start < end:
        key = content[start]
        start += 1
        if key >= 0x80:
            key, start = _varint(content, start - 1, end)
        number, kind = key >> 3, key & 7
        if number == 0 or key > 0xFFFF_FFFF:  # some parsers drop the upper bits, and then see another field
            raise DamagedError
        if kind == 0:
            value, start = _varint(content, start, end)
            found.append((number, 0, value, start))
        else:
            if kind == 2:
                if start >= end:
                    raise DamagedError
                size = content[start]
                start += 1
                if size >= 0x80:
                    size, start = _varint(content, start - 1, end)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:  # groups, which ONNX has none of
                raise DamagedError
            if size > end - start:
                raise DamagedError
            found.append((number, kind, start, start + size))
            start += size
        if len(found) > most:
            return None
    return found


def _varint(content: mmap.mmap | bytes, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end and shift < 70:
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, start
        shift += 7
    raise DamagedError
