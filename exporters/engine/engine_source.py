"""What must be known of an ONNX file before TensorRT parses it, read without onnx, which a Jetson lacks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glpn_deploy.runtimes.onnx_file.header import check_file, damaged, read_contents


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
    """Reads opset and node names, and checks that all weights lie beside the file."""
    check_file(path)  # TensorRT's parser opens whatever the file names
    contents = read_contents(path)
    if not contents.opset:
        raise damaged(path)
    return EngineSource(path, contents.opset, contents.nodes)
