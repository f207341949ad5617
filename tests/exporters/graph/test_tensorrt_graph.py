"""The form for TensorRT gives the same depth; what is folded is folded exactly."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from glpn_deploy.exporters.graph.tensorrt_graph import fold_query_biases
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 32, 32), (3, 96, 160)])
def test_the_depth_is_that_of_torch(tiny_model, pixels, tmp_path, opset, shape):
    path = to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(opset, form="tensorrt"))
    image = pixels(*shape)
    with torch.no_grad():
        expected = tiny_model(torch.from_numpy(image)).predicted_depth.numpy()
    found = ort.InferenceSession(str(path)).run(None, {"pixel_values": image})[0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def doubled(model, weights, image):
    """A model's depth in float64 with the weights given."""
    model = copy.deepcopy(model).double()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    with torch.no_grad():
        return model(torch.from_numpy(image).double()).predicted_depth.numpy()


def weights_of(model):
    return {name: tensor.numpy() for name, tensor in copy.deepcopy(model).double().state_dict().items()}


def test_query_biases_are_folded_exactly(tiny_model, pixels):
    """Against the torch model in float64: nothing but the rounding of float64 differs."""
    weights, image = weights_of(tiny_model), pixels(1, 64, 64)
    folded = fold_query_biases(tiny_model.config, weights)
    biases = [name for name in weights if name.endswith("query.bias")]
    assert len(biases) == sum(tiny_model.config.depths)
    assert all(weights[name].any() for name in biases)
    assert any(not folded[name].any() for name in biases)
    difference = doubled(tiny_model, folded, image) - doubled(tiny_model, weights, image)
    assert np.abs(difference).max() < 1e-11


def test_a_bias_that_would_lose_digits_stays(tiny_model):
    weights = weights_of(tiny_model)
    block = "glpn.encoder.block.1.0"
    for gain in (0.0, 1e-5):  # a channel that the normalisation all but drops
        weights[f"{block}.layer_norm_1.weight"][0] = gain
        folded = fold_query_biases(tiny_model.config, weights)
        changed = {name for name in folded if not np.array_equal(folded[name], weights[name])}
        assert not {name for name in changed if name.startswith(f"{block}.")}


def test_single_heads_become_two_and_queries_have_no_bias(tiny_model, tmp_path):
    graph = onnx.load(to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(20, form="tensorrt"))).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    width = tiny_model.config.hidden_sizes[0]
    assert shapes["glpn.encoder.block.0.0.attention.self.key.weight_t"] == [width, 2 * width]
    folded = fold_query_biases(tiny_model.config, weights_of(tiny_model))
    added = {node.name.rpartition("/")[0] for node in graph.node if node.op_type == "Add"}
    for name, bias in folded.items():
        if name.endswith("query.bias"):
            assert (name.removesuffix(".bias") in added) == bias.any()
