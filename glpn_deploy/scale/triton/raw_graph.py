"""An ONNX file -> the graph of glpn_raw: images of one size in 8 bits in, metres out."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from glpn_deploy.errors import ConfigError
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph
from glpn_deploy.exporters.to_uint8 import take_bytes, takes_bytes
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.scale.triton.names import DEPTH, IMAGE


def to_raw(
    source: Path, target: Path, processor: GLPNImageProcessor, size: tuple[int, int]
) -> tuple[int, int]:
    """Writes a graph that takes ``(batch, H, W, 3)`` uint8 RGB and gives ``(batch, h, w)`` float32 [m].

    Args:
        source: An artefact that takes float32 or 8 bits, and gives float32.
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
    if not takes_bytes(model):
        take_bytes(model)
    (given,), (depth,) = model.graph.input, model.graph.output
    batch, *sides, _ = _sides(given)
    gives = [
        length * _multiple(out) // _multiple(side)
        for length, out, side in zip(size, _sides(depth)[1:], sides, strict=True)
    ]
    renamed = {given.name: IMAGE, depth.name: DEPTH}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    given.CopyFrom(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, *size, 3]))
    depth.CopyFrom(helper.make_tensor_value_info(DEPTH, TensorProto.FLOAT, [batch, *gives]))
    save_graph(model, target)
    return gives[0], gives[1]


def _sides(value: onnx.ValueInfoProto) -> list[str | int]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def _multiple(side: str | int) -> int:
    """32 of ``32*h32``."""
    head, star, _ = str(side).partition("*")
    return int(head) if star else 1
