"""Spliced graphs against the two they are made of, and against the arrow that keeps nodes itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.emulate import emulated_model
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.splice import Splicer
from glpn_deploy.exporters.graph.topology.groups import groups
from glpn_deploy.exporters.to_half import to_half
from tests.refusals import refused


def depth(path, pixel_values) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": pixel_values})[0]


@pytest.fixture
def half(tiny_onnx, tmp_path):
    return to_half(tiny_onnx, tmp_path / "half.onnx")


def test_nothing_spliced_is_the_fp32_graph_and_everything_the_other(tiny_onnx, half, tmp_path, pixels):
    x = pixels(2, 32, 64)
    low = emulated_model(load_graph(half))
    onnx.save_model(low, str(tmp_path / "emulated.onnx"))
    expected = depth(tmp_path / "emulated.onnx", x)
    splicer = Splicer(load_graph(tiny_onnx), low, tmp_path)
    none = splicer.splice([], tmp_path / "none.onnx")
    names = [node.name for node in onnx.load(str(tiny_onnx)).graph.node]
    everything = splicer.splice(names, tmp_path / "all.onnx")
    np.testing.assert_array_equal(depth(none, x), depth(tiny_onnx, x))
    np.testing.assert_array_equal(depth(everything, x), expected)
    assert (depth(tiny_onnx, x) != expected).any()


def test_one_node_s_weight_is_taken_and_no_other_s(tiny_onnx, tmp_path, pixels):
    """Every weight of the other graph is twice as large; splicing the last product doubles the depth."""
    low = load_graph(tiny_onnx)
    for tensor in low.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
    splicer = Splicer(load_graph(tiny_onnx), low, tmp_path)
    x = pixels(1, 32, 64)
    spliced = splicer.splice(["head/Mul"], tmp_path / "spliced.onnx")
    np.testing.assert_allclose(depth(spliced, x), 2 * depth(tiny_onnx, x), rtol=1e-6)


def test_every_group_gives_a_valid_graph(tiny_onnx, half, tmp_path):
    splicer = Splicer(load_graph(tiny_onnx), emulated_model(load_graph(half)), tmp_path)
    for nodes in groups(load_graph(tiny_onnx)).values():
        onnx.checker.check_model(str(splicer.splice(nodes, tmp_path / "spliced.onnx")), full_check=True)


def test_a_graph_without_the_tensor_is_refused(tiny_onnx, tmp_path):
    low = load_graph(tiny_onnx)
    low.graph.node[-1].output[0] = "another_name"
    splicer = Splicer(load_graph(tiny_onnx), low, tmp_path)
    with refused(ExportError, got="no tensor predicted_depth"):
        splicer.splice(["head/Mul"], tmp_path / "spliced.onnx")
