"""An ONNX file of any precision -> the same, taking 8-bit images, which it divides by 255 itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph
from glpn_deploy.exporters.graph.onnx_graph import TO_NCHW

_INPUT = "8-bit RGB images (N, H, W, 3)"
"""Of the metadata's ``input``, the part that tells such a graph from others."""


def to_uint8(source: Path, target: Path) -> Path:
    """Writes a graph that takes images ``(N, H, W, 3)`` uint8 and gives the same depth.

    Args:
        source: A file of any of the other arrows, with a float32 input.
        target: Where the file shall stand, ``source`` itself perhaps; replaced whole or not at all.

    Returns:
        ``target``. The same source gives the same bytes.

    Raises:
        ExportError: The source cannot be read, is none of ours, or takes something else than float32.
        WriteError: The file could not be written.
    """
    return save_graph(take_bytes(load_graph(source)), target)


def take_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Changes a graph in place: ``pixel_values`` becomes ``(N, H, W, 3)`` uint8, RGB from 0 to 255.

    The division is FP32's, whatever the graph computes in, and gives exactly the numbers that
    `GLPNImageProcessor` gives (a product with 1/255 would be one bit off for 126 of the 256). The cast comes
    first, for TensorRT takes no other operator on bytes.

    Raises:
        ExportError: The input is not ``(N, 3, H, W)`` float32, so that it would not be the same network.
    """
    (given,) = model.graph.input
    kind, shape = given.type.tensor_type.elem_type, given.type.tensor_type.shape
    sides = [side.dim_param or side.dim_value for side in shape.dim]
    if kind != TensorProto.FLOAT or len(sides) != 4 or sides[1] != 3:
        raise ExportError(
            f"the graph's input is {TensorProto.DataType.Name(kind)} {sides}",
            expected="FLOAT, (N, 3, H, W)",
            fix="take the graph as it is written without --io",
        )
    name = given.name
    scope = f"{name}/images"  # to_half calls its cast NAME/Cast
    for node in model.graph.node:
        node.input[:] = [f"{scope}/Div" if tensor == name else tensor for tensor in node.input]
    chain: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
        ("Cast", [name], {"to": TensorProto.FLOAT}),
        ("Transpose", [f"{scope}/Cast"], {"perm": list(TO_NCHW)}),
        ("Div", [f"{scope}/Transpose", f"{scope}/white"], {}),
    )
    front = [
        helper.make_node(operator, inputs, [f"{scope}/{operator}"], name=f"{scope}/{operator}", **attributes)
        for operator, inputs, attributes in chain
    ]
    nodes = [*front, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    white = numpy_helper.from_array(np.array(255, np.float32), f"{scope}/white")
    model.graph.initializer.append(white)
    given.CopyFrom(
        helper.make_tensor_value_info(name, TensorProto.UINT8, [sides[0], sides[2], sides[3], sides[1]])
    )
    props = {entry.key: entry.value for entry in model.metadata_props}
    if "input" in props:
        props["input"] = props["input"].replace("RGB, 0 to 1", _INPUT)
    helper.set_model_props(model, props)
    return model


def takes_bytes(model: onnx.ModelProto) -> bool:
    """Whether a graph's input is 8-bit images."""
    return bool(model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8)
