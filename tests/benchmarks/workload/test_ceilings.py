"""The arithmetic against a count over the ONNX graph, and the ceilings against their own definition."""

from __future__ import annotations

import math

import onnx
import pytest
from onnx import shape_inference

from glpn_deploy.benchmarks.measuring.worker import time_calls
from glpn_deploy.benchmarks.workload.ceilings import Product, count_flops
from glpn_deploy.exporters.graph.onnx_graph import GlpnGraph, build_model


def flops_of_graph(path, height: int, width: int) -> int:
    """Two for every multiply-add of the graph's convolutions and matrix products at one size."""
    model = onnx.load(path)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, height, width), strict=True):
        dim.Clear()
        dim.dim_value = size
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += 2 * math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


@pytest.mark.parametrize(("height", "width"), [(64, 96), (128, 64)])
def test_the_count_is_the_graphs(height, width, tiny_model, tmp_path) -> None:
    """As the network is written down; the forms for TensorRT and CPUs multiply otherwise here and there."""
    weights = {name: tensor.numpy() for name, tensor in tiny_model.state_dict().items()}
    path = tmp_path / "model.onnx"
    onnx.save(build_model(GlpnGraph(tiny_model.config, weights, 17)), path)
    assert count_flops(tiny_model.config, height, width) == flops_of_graph(path, height, width)


def test_the_count_grows_faster_than_the_image(tiny_config) -> None:
    """Attention is quadratic in the pixels, the rest linear."""
    assert count_flops(tiny_config, 256, 256) > 4 * count_flops(tiny_config, 128, 128)


def test_a_product_is_measured() -> None:
    product = Product("cpu", 1)
    assert product.flops == 2 * 1024**3
    assert 0.1 < product.flops / (min(time_calls(product.call, 3, 0)) / 1e3) / 1e9 < 1e5
