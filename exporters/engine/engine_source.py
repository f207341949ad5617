"""What must be known of an ONNX file before TensorRT parses it, read without onnx, which a Jetson lacks."""

from __future__ import annotations

import dataclasses
import mmap
from pathlib import Path

from glpn_deploy.errors import BundleError
from glpn_deploy.runtimes.onnx_file.header import check_file
from glpn_deploy.runtimes.onnx_file.protobuf import DamagedError, fields, integers


@dataclasses.dataclass(frozen=True)
class EngineSource:
    """An ONNX file to build from.

    Attributes:
        opset: The version of ONNX's own operators that it uses.
        nodes: "MatMul encoder/0/query" for every node, in order.
    """

    path: Path
    opset: int
    nodes: tuple[str, ...]


def read_source(path: Path) -> EngineSource:
    """Reads opset and node names, and checks that all weights lie beside the file.

    Raises:
        BundleError: It is missing, damaged, or names files outside its folder.
    """
    check_file(path)  # TensorRT's parser opens whatever the file names
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            opset, nodes = _read(content)
    except (DamagedError, UnicodeDecodeError, OSError):
        opset = 0
    if not opset:
        raise BundleError(
            f"{path} is not an ONNX file, or is damaged",
            fix="verify the bundle with glpn-verify, or export it again",
        )
    return EngineSource(path, opset, tuple(nodes))


def _read(content: mmap.mmap) -> tuple[int, list[str]]:
    """By the field numbers of onnx.proto."""
    opset, nodes = 0, []
    for number, start, end in fields(content, 0, len(content)):
        if number == 8:  # opset_import
            domains = [content[a:b].decode() for n, a, b in fields(content, start, end) if n == 1]
            if not domains or domains[-1] in ("", "ai.onnx"):
                opset = integers(content, start, end).get(2, 0)
        if number == 7:  # graph
            for part, a, b in fields(content, start, end):
                if part == 1:  # node
                    texts = {n: content[c:d].decode() for n, c, d in fields(content, a, b) if n in (3, 4)}
                    nodes.append(f"{texts.get(4, '?')} {texts.get(3, '')}".strip())
    return opset, nodes
