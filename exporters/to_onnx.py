"""checkpoint -> ONNX: the arrow that writes `onnx_graph`'s model to a file, and checks what it wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

import glpn_deploy
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.graph_edit import SINGLE_FILE_LIMIT, save_graph
from glpn_deploy.exporters.graph.onnx_graph import GlpnGraph, build_model
from glpn_deploy.exporters.graph.tensorrt_graph import TensorRTGraph
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_uint8 import take_bytes
from glpn_deploy.model.modeling import GLPNForDepthEstimation


def to_onnx(model: GLPNForDepthEstimation, path: Path, options: OnnxOptions = OnnxOptions()) -> Path:
    """Writes a network as an ONNX file, dynamic in batch, height and width.

    Args:
        model: The network, as `GLPNForDepthEstimation.from_pretrained` gives it.
        path: Where the file shall stand; replaced whole or not at all. Weights beside it are a second
            file, put in place just before: only a bundle (`build_bundle`) changes both at once.
        options: Opset, form, input and file size.

    Returns:
        ``path``. The same weights and options give the same bytes.

    Raises:
        ConfigError: The configuration was changed to what no network has.
        ExportError: The graph is not a valid, honest one.
        WriteError: The file could not be written.
    """
    config = model.config
    config.validate()  # its attributes may have been set since the network was made
    known = onnx.defs.onnx_opset_version()
    if options.opset > known:
        raise ExportError(
            f"opset {options.opset} is newer than the installed onnx {onnx.__version__}",
            expected=f"at most {known}",
            fix="pip install -U onnx, or choose a lower --opset",
        )
    weights = _weights(model)
    writer = TensorRTGraph if options.form == "tensorrt" else GlpnGraph
    proto = build_model(writer(config, weights, options.opset))
    proto.producer_name, proto.producer_version = "glpn-deploy", glpn_deploy.__version__
    metadata = {
        "glpn_config": json.dumps(config.network(), sort_keys=True),
        "input": "RGB, 0 to 1, sides multiples of " + str(config.size_multiple),
        "precision": "fp32",
        "max_depth": repr(float(config.max_depth)),
        "unit": "metres",
    }
    onnx.helper.set_model_props(proto, metadata)
    check_promises(proto)
    if options.io == "uint8":
        take_bytes(proto)
    limit = options.single_file_limit
    return save_graph(proto, path, SINGLE_FILE_LIMIT if limit is None else limit)


def _weights(model: GLPNForDepthEstimation) -> dict[str, NDArray[np.float32]]:
    """The network's tensors; a network that is not as its configuration says has no graph here."""
    with torch.device("meta"):
        wanted = {k: v.shape for k, v in GLPNForDepthEstimation(model.config).state_dict().items()}
    state = model.state_dict()
    other = sorted({k for k, v in state.items() if wanted.get(k) != v.shape} | (wanted.keys() - state.keys()))
    if other:
        raise ExportError(
            f"{len(other)} of the network's tensors are not its configuration's ({', '.join(other[:3])})",
            expected="a GLPN with its own layers",
            fix="merge adapters and remove parametrizations first",
        )
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def check_promises(model: onnx.ModelProto) -> None:
    """Checks what is promised of an exported graph beside that it is valid ONNX.

    Raises:
        ExportError: It has random or dropout nodes, its sides are not free, or it carries stack traces.
    """
    random = sorted(
        {n.op_type for n in model.graph.node if n.op_type.startswith("Random") or n.op_type == "Dropout"}
    )
    if random:
        raise ExportError(f"the graph has {', '.join(random)} nodes", expected="a network in eval mode")
    dims = [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
    if not dims[0] or not all(re.fullmatch(r"\d+\*\w+", dims[axis]) for axis in (2, 3)):
        raise ExportError(
            f"the graph's input has the dimensions {dims}", expected="a free batch and sides like 32*h32"
        )
    if any(entry.key.startswith("pkg.") for entry in model.metadata_props) or any(
        n.doc_string for n in model.graph.node
    ):
        raise ExportError("the graph carries stack traces or doc strings", expected="none")


def tensor_shapes(path: Path) -> dict[str, list[int | str]]:
    """Names and shapes of an ONNX file's inputs and outputs, free dimensions by their names."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def count_nodes(path: Path) -> int:
    """Number of nodes in an ONNX file."""
    return len(onnx.load(str(path), load_external_data=False).graph.node)
