"""Where an ONNX file keeps its weights, read without onnx: outside its own folder is refused.

ONNX Runtime refuses such files itself only since microsoft/onnxruntime#26776 (December 2025), sparse tensors
and memory addresses since #28408 and #28709 (May 2026); earlier versions, from 1.17 on allowed here and the
newest for some JetPacks, open any path that the file names.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.errors import BundleError

# Field numbers of onnx.proto: how each message leads to tensors, and what messages those fields hold.
_LEADS_TO_TENSORS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_DEEPEST = 100  # protobuf's own limit


def check_external_data(path: Path) -> None:
    """Checks that every file an ONNX file keeps weights in lies in the same folder or below.

    Raises:
        BundleError: One does not, or the file is not an ONNX file.
    """
    folder = path.parent.resolve()
    try:
        for location in _locations(path):
            if not location or Path(location).is_absolute() or "*" in location:  # "*" marks memory addresses
                raise ValueError(location)
            if not (folder / location).resolve().is_relative_to(folder):
                raise ValueError(location)
    except _DamagedError:
        raise BundleError(
            f"{path} is not an ONNX file, or is damaged",
            fix="verify the bundle with glpn-verify, or export it again",
        ) from None
    except (ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise BundleError(
            f"{path} keeps weights in {str(error)!r}, outside its own folder",
            expected="files beside it",
            fix="do not use this file; export the checkpoint again with glpn-export",
        ) from None


class _DamagedError(Exception):
    """The bytes are not those of an ONNX file."""


def _locations(path: Path) -> Iterator[str]:
    if not path.stat().st_size:
        raise _DamagedError
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, end in _entries(content, "model", 0, len(content), 0):
            fields = {number: content[a:b] for number, a, b in _fields(content, start, end)}
            if fields.get(1) == b"location":
                try:
                    yield fields.get(2, b"").decode()
                except UnicodeDecodeError:
                    raise _DamagedError from None


def _entries(content: mmap.mmap, message: str, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    """Spans of all ``external_data`` entries below a message."""
    if message == "entry":
        yield start, end
        return
    if depth > _DEEPEST:
        raise _DamagedError
    leads = _LEADS_TO_TENSORS[message]
    for number, a, b in _fields(content, start, end):
        if number in leads:
            yield from _entries(content, leads[number], a, b, depth + 1)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and span of every length-delimited field of a message; the others are stepped over."""
    while start < end:
        key, start = _varint(content, start, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, start = _varint(content, start, end)
            continue
        if kind == 2:
            size, start = _varint(content, start, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:  # groups, which ONNX has none of
            raise _DamagedError
        if number == 0 or size > end - start:
            raise _DamagedError
        if kind == 2:
            yield number, start, start + size
        start += size


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end and shift < 70:
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
    raise _DamagedError
