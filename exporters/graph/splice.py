"""Graphs that are one graph but for some nodes, which they take from another: to try parts of a precision.

Made for the layer-wise search, where converting, emulating and checking a graph anew for each group takes
longer than running it. Both graphs' weights are written once, and every spliced graph refers to them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

from glpn_deploy.errors import ExportError

_INLINE = 1024  # bytes; ONNX Runtime wants to read shapes and axes without opening another file
_DATA = "weights.data"


class Splicer:
    """Splices nodes of a low-precision graph into the FP32 graph that it was made from.

    Args:
        full: The FP32 graph; its weights are moved out of it.
        low: A graph that runs in FP32, too (emulated, or with Q/DQ pairs), in which tensors have the names
            they have in ``full``; its weights are moved out, too.
        folder: Where the graphs are written; the caller removes it.
    """

    def __init__(self, full: onnx.ModelProto, low: onnx.ModelProto, folder: Path) -> None:
        self._full, self._folder = full, folder
        with (folder / _DATA).open("wb") as data:
            for tensor in (*full.graph.initializer, *low.graph.initializer):
                if len(tensor.raw_data) > _INLINE:
                    offset, length = data.tell(), len(tensor.raw_data)
                    data.write(tensor.raw_data)
                    set_external_data(tensor, _DATA, offset, length)
                    tensor.ClearField("raw_data")
        self._weights = {tensor.name: _renamed(tensor) for tensor in low.graph.initializer}
        self._low = list(low.graph.node)
        self._producer = {name: index for index, node in enumerate(self._low) for name in node.output}
        self._inputs = {value.name for value in full.graph.input}

    def splice(self, nodes: Collection[str], path: Path) -> Path:
        """Writes the FP32 graph with the nodes of these names as they are in the low-precision graph.

        What lies between them and other nodes' results (casts, Q/DQ pairs, stored weights) comes with them:
        rounding an input belongs to the node that reads it where it is a node of its own, as Q/DQ pairs are,
        and to the node that gives it where it is that one's type.

        Args:
            nodes: Names in the FP32 graph.
            path: Where to write, in the splicer's folder.

        Raises:
            ExportError: The low-precision graph lacks a tensor of the FP32 graph.
        """
        chosen = set(nodes)
        others = {
            name for node in self._full.graph.node if node.name not in chosen for name in node.output
        } | self._inputs
        model = onnx.ModelProto(ir_version=self._full.ir_version)
        model.opset_import.extend(self._full.opset_import)
        model.metadata_props.extend(self._full.metadata_props)
        graph = model.graph
        graph.name = self._full.graph.name
        graph.input.extend(self._full.graph.input)
        graph.output.extend(self._full.graph.output)
        graph.initializer.extend(self._full.graph.initializer)
        placed: set[int] = set()
        for node in self._full.graph.node:
            if node.name not in chosen:
                graph.node.append(node)
                continue
            for index in sorted(self._ancestors(node.output, others) - placed):
                placed.add(index)
                low = graph.node.add()
                low.CopyFrom(self._low[index])
                low.input[:] = [_low_name(n) if n in self._weights else n for n in low.input]
        used = {name for node in graph.node for name in node.input}
        graph.initializer.extend(t for t in self._weights.values() if t.name in used)
        onnx.save_model(model, str(path))
        return path

    def _ancestors(self, tensors: Collection[str], others: Collection[str]) -> set[int]:
        """Indices of the low graph's nodes that lead from ``others`` and weights to ``tensors``."""
        found: set[int] = set()
        wanted = [name for name in tensors if name]
        while wanted:
            name = wanted.pop()
            index = self._producer.get(name)
            if index is None:
                raise ExportError(
                    f"the low-precision graph has no tensor {name}", expected="the names of FP32's"
                )
            if index in found:
                continue
            found.add(index)
            for name in self._low[index].input:
                if name and name not in others and name not in self._weights:
                    wanted.append(name)
        return found


def _low_name(name: str) -> str:
    return f"low/{name}"


def _renamed(tensor: TensorProto) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = _low_name(tensor.name)
    return copy
