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
from glpn_deploy.runtimes.onnx_file.protobuf import DamagedError, fields

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


def check_external_data(path: Path) -> list[Path]:
    """Checks that every file an ONNX file keeps weights in lies in the same folder or below.

    Returns:
        Those files, each once, in the order they are named.

    Raises:
        BundleError: One does not, or the file is not an ONNX file.
    """
    folder = path.parent.resolve()
    files: dict[Path, None] = {}
    try:
        for location in _locations(path):
            if not location or Path(location).is_absolute() or "*" in location:  # "*" marks memory addresses
                raise ValueError(location)
            file = (folder / location).resolve()
            if not file.is_relative_to(folder):
                raise ValueError(location)
            files[file] = None
    except DamagedError:
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
    return list(files)


def _locations(path: Path) -> Iterator[str]:
    if not path.stat().st_size:
        raise DamagedError
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, end in _entries(content, "model", 0, len(content), 0):
            entry = {number: content[a:b] for number, a, b in fields(content, start, end)}
            if entry.get(1) == b"location":
                try:
                    yield entry.get(2, b"").decode()
                except UnicodeDecodeError:
                    raise DamagedError from None


def _entries(content: mmap.mmap, message: str, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    """Spans of all ``external_data`` entries below a message."""
    if message == "entry":
        yield start, end
        return
    if depth > _DEEPEST:
        raise DamagedError
    leads = _LEADS_TO_TENSORS[message]
    for number, a, b in fields(content, start, end):
        if number in leads:
            yield from _entries(content, leads[number], a, b, depth + 1)
