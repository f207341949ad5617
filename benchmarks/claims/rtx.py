"""What NVIDIA's compiler makes of the graphs: kernels, fused attention, traffic and weights; needs no GPU.

glpn-nyu's architecture with random weights, and the demo network, at 480x640, compiled by TensorRT for RTX
for all the cards that have the precision. Weights and ranges change no kernel. It is what
``glpn-build --explain`` says, of graphs that no bundle has side by side.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.options import Form, Io, OnnxOptions
from glpn_deploy.exporters.search.recipes import least_opset
from glpn_deploy.exporters.to_engine import explain_onnx
from glpn_deploy.exporters.to_fp8 import fp8_tensors, to_fp8
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.to_uint8 import to_uint8
from glpn_deploy.gpu.tensorrt_rtx import default_targets
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.precisions import Precision

SIZE = (480, 640)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A graph to compile.

    Attributes:
        precision: What it computes in.
        form: Whose forms it is written in.
        opset: Its opset; None takes what ``glpn-export`` would.
        io: What it takes and gives.
        batch: Images a run.
    """

    precision: Precision
    form: Form = "tensorrt"
    opset: int | None = None
    io: Io = "fp32"
    batch: int = 1


GRAPHS = {
    "fp32": Graph("fp32", form="any"),
    "fp16, form for all engines": Graph("fp16", form="any"),
    "fp16": Graph("fp16"),
    "fp16, uint8 input": Graph("fp16", io="uint8"),
    "fp16, batch 2": Graph("fp16", batch=2),
    "bf16": Graph("bf16"),
    "int8, opset 17": Graph("int8", opset=17),
    "int8": Graph("int8"),
    "fp8": Graph("fp8"),
}


def write_graph(model: GLPNForDepthEstimation, graph: Graph, folder: Path) -> Path:
    """Writes a graph as ``glpn-export`` does, with one range for all its tensors."""
    opset = graph.opset or least_opset(graph.precision)
    source, target = folder / f"{graph.form}.{opset}.onnx", folder / "graph.onnx"
    if not source.exists():
        to_onnx(model, source, OnnxOptions(opset, form=graph.form))
    if graph.precision == "fp32":
        return source
    if graph.precision == "int8":
        to_int8(source, target, _ranges(int8_tensors(source)))
    elif graph.precision == "fp8":
        to_fp8(source, target, _ranges(fp8_tensors(source)))
    else:
        to_half(source, target, HalfOptions(graph.precision))
    return to_uint8(target, target) if graph.io == "uint8" else target


def explain_graph(model: GLPNForDepthEstimation, graph: Graph, folder: Path) -> dict[str, Any]:
    """What its engine consists of; kernels are counted, not named."""
    profile = Profile.fixed((graph.batch, *SIZE))
    targets = default_targets(graph.precision)
    options = EngineOptions(profiles=(profile,), precision=graph.precision, targets=targets)
    told = explain_onnx(write_graph(model, graph, folder), options).to_dict()
    return {name: value for name, value in told.items() if name not in ("title", "heaviest")}


def measure(options: FigureOptions) -> dict[str, Any]:
    """Every graph of both networks."""
    networks = {
        "glpn-nyu's architecture": random_model(NYU, 0),
        "demo network": GLPNForDepthEstimation.from_pretrained("demo"),
    }
    found: dict[str, Any] = {}
    for network, model in networks.items():
        found[network] = {}
        folder = options.folder / str(len(found))
        folder.mkdir()
        for name, graph in GRAPHS.items():
            with progress.step(f"{network}: {name}"):
                found[network][name] = explain_graph(model, graph, folder)
    return {"size": list(SIZE), "networks": found}


def _ranges(tensors: list[str]) -> Ranges:
    return Ranges(dict.fromkeys(tensors, (-4.0, 4.0)), "minmax", 1, "0" * 64)
