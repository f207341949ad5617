"""network -> ONNX: the arrow that writes `onnx_graph`'s model or a trace to a file, and checks it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

import glpn_deploy
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.cpu_graph import CpuGraph
from glpn_deploy.exporters.graph.graph_edit import SINGLE_FILE_LIMIT, save_graph
from glpn_deploy.exporters.graph.onnx_graph import build_model
from glpn_deploy.exporters.graph.tensorrt_graph import TensorRTGraph
from glpn_deploy.exporters.network.trace import Trace
from glpn_deploy.exporters.options import OnnxOptions, Route
from glpn_deploy.exporters.to_uint8 import take_bytes
from glpn_deploy.model.base import config_of
from glpn_deploy.model.modeling import GLPNForDepthEstimation


def to_onnx(
    model: nn.Module, path: Path, options: OnnxOptions = OnnxOptions(), *, route: Route | None = None
) -> Path:
    """Writes a network as an ONNX file, dynamic in batch, height and width.

    Args:
        model: The network, as `GLPNForDepthEstimation.from_pretrained` gives it; traced, also any module with
            its input and output (`glpn_deploy.exporters.network.trace.Trace`).
        path: Where the file shall stand; replaced whole or not at all. Weights beside it are a second
            file, put in place just before: only a bundle (`build_bundle`) changes both at once.
        options: Route, opset, form, input and file size.
        route: Instead of the options': ``write`` or ``trace``.

    Returns:
        ``path``. The same weights and options, written, give the same bytes.

    Raises:
        ConfigError: The configuration was changed to what no network has.
        ExportError: The graph is not a valid, honest one; the network is not its configuration's (written),
            or cannot be followed (traced).
        WriteError: The file could not be written.
    """
    return FP32Graphs(model, options.route if route is None else route).write(path, options)


class FP32Graphs:
    """The graphs of one network, which is traced once where it is traced.

    Args:
        model: The network.
        route: ``write`` or ``trace``.
    """

    def __init__(self, model: nn.Module, route: Route) -> None:
        self._model = model
        self._trace = Trace(model) if route == "trace" else None

    def write(self, path: Path, options: OnnxOptions) -> Path:
        """As `to_onnx`; the options' route has no effect, nor their form on what is traced."""
        config = config_of(self._model)
        config.validate()  # its attributes may have been set since the network was made
        known = onnx.defs.onnx_opset_version()
        if options.opset > known:
            raise ExportError(
                f"opset {options.opset} is newer than the installed onnx {onnx.__version__}",
                expected=f"at most {known}",
                fix="pip install -U onnx, or choose a lower --opset",
            )
        if self._trace is None:
            weights = _weights(self._model)
            writer = TensorRTGraph if options.form == "tensorrt" else CpuGraph
            proto = build_model(writer(config, weights, options.opset))
        else:
            proto = self._trace.model(options.opset)
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


def _weights(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The network's tensors; a network that is not as its configuration says is not written here."""
    with torch.device("meta"):
        wanted = GLPNForDepthEstimation(config_of(model))
    shapes, state = ({k: v.shape for k, v in m.state_dict().items()} for m in (wanted, model))
    kinds, own = ({k: type(v) for k, v in m.named_modules() if k} for m in (wanted, model))
    parts = [("tensors", shapes, state), ("modules", kinds, own)]
    for what, expected, found in parts:
        other = sorted({k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)})
        if other:
            raise ExportError(
                f"{len(other)} of the network's {what} are not its configuration's ({', '.join(other[:3])})",
                expected="a GLPN with its own layers, which is written down without running it",
                fix='trace it: to_onnx(network, path, route="trace"), or glpn-export --trace',
            )
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
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
    for value, sides in ((model.graph.input[0], r"\d+\*\w+"), (model.graph.output[0], r"(\d+\*)?[a-z]\w*")):
        dims = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        if not dims[0] or not all(re.fullmatch(sides, side) for side in dims[-2:]):
            raise ExportError(
                f"the graph's {value.name} has the dimensions {dims}",
                expected="a free batch and sides like 32*h32",
            )
    if any(entry.key.startswith("pkg.") for entry in model.metadata_props) or any(
        n.doc_string for n in model.graph.node
    ):
        raise ExportError("the graph carries stack traces or doc strings", expected="none")
