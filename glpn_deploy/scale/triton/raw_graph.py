"""An ONNX file -> the graph of glpn_raw: images of one size in 8 bits in, metres out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ConfigError, ExportError
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph
from glpn_deploy.exporters.graph.onnx_graph import TO_NCHW
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.scale.triton.names import DEPTH, IMAGE


def to_raw(
    source: Path, target: Path, processor: GLPNImageProcessor, size: tuple[int, int]
) -> tuple[int, int]:
    """Writes a graph that takes ``(batch, H, W, 3)`` uint8 RGB and gives ``(batch, h, w)`` float32 [m].

    Args:
        source: An artefact with a float32 input and output.
        target: Where the graph shall stand.
        processor: The bundle's, whose arithmetic the graph takes over.
        size: Height and width [px] of the images.

    Returns:
        Height and width of the depth [px], which are the images' but for unusual networks.

    Raises:
        ConfigError: The processor does something else than divide by 255.
        ExportError: The source cannot be read, or takes or gives something else.
        WriteError: The file cannot be written.
    """
    if not processor.do_rescale or processor.rescale_factor != 1 / 255 or processor.do_normalize:
        raise ConfigError(
            "glpn_raw divides by 255, and the image processor does something else",
            expected="do_rescale with a rescale_factor of 1/255, and no do_normalize",
            fix="leave it out: --models glpn,glpn_python",
        )
    model = load_graph(source)
    (given,), (depth,) = model.graph.input, model.graph.output
    if {given.type.tensor_type.elem_type, depth.type.tensor_type.elem_type} != {TensorProto.FLOAT}:
        raise ExportError(f"{source} takes or gives other types", expected="float32 in and out")
    batch, _, *sides = _sides(given)
    gives = [
        length * _multiple(out) // _multiple(side)
        for length, out, side in zip(size, _sides(depth)[1:], sides, strict=True)
    ]
    renamed = {given.name: f"{IMAGE}/Div", depth.name: DEPTH}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    white = numpy_helper.from_array(np.array(255, np.float32), f"{IMAGE}/white")
    model.graph.initializer.append(white)
    # A product with 1/255 would be one bit off the processor's numbers for half of the bytes.
    front = [
        _node("Cast", [IMAGE], to=TensorProto.FLOAT),
        _node("Transpose", [f"{IMAGE}/Cast"], perm=list(TO_NCHW)),
        _node("Div", [f"{IMAGE}/Transpose", white.name]),
    ]
    nodes = [*front, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    given.CopyFrom(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, *size, 3]))
    depth.CopyFrom(helper.make_tensor_value_info(DEPTH, TensorProto.FLOAT, [batch, *gives]))
    save_graph(model, target)
    return gives[0], gives[1]


def _node(kind: str, inputs: Iterable[str], **attributes: Any) -> onnx.NodeProto:
    name = f"{IMAGE}/{kind}"
    return helper.make_node(kind, list(inputs), [name], name=name, **attributes)


def _sides(value: onnx.ValueInfoProto) -> list[str | int]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def _multiple(side: str | int) -> int:
    """32 of ``32*h32``."""
    head, star, _ = str(side).partition("*")
    return int(head) if star else 1
