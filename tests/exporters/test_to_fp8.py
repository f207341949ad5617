"""FP8 graphs: numbers against torch's, and what is left in FP16."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper

from glpn_deploy import GLPNConfig, GLPNImageProcessor
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.calibration.calibration import Ranges, calibrate, random_images
from glpn_deploy.exporters.graph.graph_edit import precision_of, tensor_types
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_fp8 import describe_fp8, fp8_tensors, to_fp8
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.typed_qdq import QuantizeOptions
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()
WIDE = GLPNConfig(
    depths=(1, 1, 1, 1),
    hidden_sizes=(16, 32, 48, 64),
    num_attention_heads=(1, 2, 3, 4),
    mlp_ratios=(2, 2, 2, 2),
    decoder_hidden_size=32,
)
OPSETS = (19, 23)


@pytest.fixture(scope="module")
def graphs(make_model, tmp_path_factory) -> dict[int, Path]:
    folder, model = tmp_path_factory.mktemp("wide"), make_model(WIDE)
    return {opset: to_onnx(model, folder / f"{opset}.onnx", OnnxOptions(opset)) for opset in (17, *OPSETS)}


@pytest.fixture(scope="module")
def all_ranges(graphs) -> dict[int, Ranges]:
    images = random_images(16, 64, 96)
    return {
        opset: calibrate(graphs[opset], images, PROCESSOR, fp8_tensors(graphs[opset])) for opset in OPSETS
    }


@pytest.fixture(scope="module")
def ranges(all_ranges) -> Ranges:
    return all_ranges[19]


@pytest.fixture(scope="module", params=OPSETS)
def pair(request, graphs, all_ranges, tmp_path_factory) -> tuple[Path, Path]:
    """A graph and its FP8 form."""
    source, path = graphs[request.param], tmp_path_factory.mktemp("fp8") / "fp8.onnx"
    return source, to_fp8(source, path, all_ranges[request.param])


def values_of(path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def run(path, image, options=None) -> np.ndarray:
    if options is None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": PROCESSOR.prepare(image)[None]})[0]


def test_depth_stays(pair):
    image = random_images(1, 64, 96, seed=4)[0]
    expected, found = run(pair[0], image), run(pair[1], image)
    assert 0 < np.mean(np.abs(found - expected) / expected) < 0.12  # three bits, random weights
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_a_session_of_defaults_gives_what_the_pairs_say(pair):
    """Its optimizer made integers of the biases, in FP16, where a Relu and a pair follow (0.35 off)."""
    image = random_images(1, 64, 96, seed=4)[0]
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    expected = run(pair[1], image, options)
    found = run(pair[1], image, ort.SessionOptions())
    assert np.mean(np.abs(found - expected) / expected) < 1e-3


def test_pairs_are_fp8_in_fp16(pair, all_ranges):
    model, values = onnx.load(pair[1]), values_of(pair[1])
    ranges = all_ranges[int(pair[0].stem)]
    assert precision_of(model) == "fp8"
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    quantise = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantise) > 20
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert types[node.input[2]] == TensorProto.FLOAT8E4M3FN
            assert types[node.input[1]] == TensorProto.FLOAT16
            assert not values[node.input[2]].astype(np.float32).any()
    for node in quantise:
        limit = max(map(abs, ranges.limits[node.input[0].removesuffix("/Cast")]))
        assert float(values[node.input[1]]) == pytest.approx(limit / 448, rel=2e-3)
    assert sum(node.op_type == "Cast" for node in model.graph.node) <= 2


def test_weights_are_torchs_fp8(pair):
    values, source = values_of(pair[1]), values_of(pair[0])
    stored = [node for node in onnx.load(pair[1]).graph.node if node.op_type == "DequantizeLinear"]
    checked = 0
    for node in stored:
        if node.input[0] not in values:
            continue
        weight = source[next(name for name in source if node.input[0].startswith(name))]
        scale, axis = values[node.input[1]].astype(np.float64), node.attribute[0].i
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        scaled = torch.from_numpy(weight.astype(np.float64) / scale.reshape(shape)).float()
        expected = scaled.to(torch.float8_e4m3fn).float().numpy()
        assert values[node.input[0]].dtype == ml_dtypes.float8_e4m3fn
        np.testing.assert_array_equal(values[node.input[0]].astype(np.float32), expected)
        checked += 1
    assert checked > 35


def test_what_has_no_kernel_stays_fp16(pair):
    made = {name: node for node in onnx.load(pair[1]).graph.node for name in node.output}
    taken = [
        node
        for node in onnx.load(pair[1]).graph.node
        if node.op_type in ("Conv", "MatMul")
        and node.input[1] in made
        and made[node.input[1]].op_type == "DequantizeLinear"
    ]
    names = {node.name for node in taken}
    assert not [name for name in names if "dwconv" in name or "scores" in name or "context" in name]
    assert "glpn.encoder.patch_embeddings.0.proj/Conv" not in names  # 3 channels, 49 taps
    assert "glpn.encoder.block.0.0.attention.self.sr/Conv" not in names  # 64 taps
    assert "glpn.encoder.block.1.0.attention.self.sr/Conv" in names  # 16 taps
    assert "decoder.stages.1.fusion.convolutional_layer3/Conv" not in names  # 2 channels
    assert "head.head.2/Conv" not in names  # 1 channel
    assert Counter(node.op_type for node in taken)["MatMul"] == 16


def test_kept_nodes_stay(graphs, ranges, tmp_path):
    keep = frozenset({"glpn.encoder.block.0.0.mlp.dense1/Conv"})
    assert (
        len(fp8_tensors(graphs[19], QuantizeOptions(nodes_to_exclude=keep)))
        == len(fp8_tensors(graphs[19])) - 1
    )
    model = onnx.load(
        to_fp8(graphs[19], tmp_path / "fp8.onnx", ranges, QuantizeOptions(nodes_to_exclude=keep))
    )
    node = next(node for node in model.graph.node if node.name == "glpn.encoder.block.0.0.mlp.dense1/Conv")
    assert not node.input[1].endswith("/dq")


def test_what_fp16_cannot_hold_is_fp32_with_fp32_scales(graphs, ranges, tmp_path):
    full = frozenset({"glpn.encoder.block.0.0.mlp.dense1/Conv"})
    path = to_fp8(graphs[19], tmp_path / "fp8.onnx", ranges, QuantizeOptions(fp32_nodes=full))
    model = onnx.load(path)
    types, made = tensor_types(model), {name: node for node in model.graph.node for name in node.output}
    node = made["glpn.encoder.block.0.0.mlp.dense1/Conv"]
    pairs = [made[name] for name in node.input[:2]]
    assert [pair.op_type for pair in pairs] == ["DequantizeLinear"] * 2
    assert {types[pair.input[1]] for pair in pairs} == {TensorProto.FLOAT}
    assert types[node.output[0]] == TensorProto.FLOAT
    others = [
        n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.name not in pairs[0].input[0]
    ]
    assert TensorProto.FLOAT16 in {types[other.input[1]] for other in others}


def test_the_same_bytes_every_time(graphs, ranges, tmp_path):
    first, second = (to_fp8(graphs[19], tmp_path / f"{i}.onnx", ranges).read_bytes() for i in range(2))
    assert first == second


def test_the_recipe_in_words():
    assert describe_fp8(QuantizeOptions())["weights"] == "float8e4m3fn, per output channel"


def test_an_opset_without_fp8(graphs, ranges, tmp_path):
    for call in (
        lambda: to_fp8(graphs[17], tmp_path / "x.onnx", ranges),
        lambda: fp8_tensors(graphs[17]),
    ):
        with refused(ExportError, got="opset 17 has no FP8", expected="19 or later", fix="--opset 20"):
            call()


def test_half_precision_input_and_output(graphs, all_ranges, tmp_path):
    path = to_fp8(graphs[19], tmp_path / "half.onnx", all_ranges[19], QuantizeOptions(io="half"))
    graph = onnx.load(path).graph
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert ends == [TensorProto.FLOAT16] * 2
    assert not [node.name for node in graph.node if node.op_type == "Cast"]
    with refused(InputError, got="io is 'fp16'"):
        QuantizeOptions(io="fp16")


def test_other_refusals(graphs, ranges, tmp_path):
    with refused(ExportError, got="already converted"):
        to_fp8(to_half(graphs[19], tmp_path / "half.onnx"), tmp_path / "x.onnx", ranges)
    with refused(ExportError, got="no range for"):
        to_fp8(graphs[19], tmp_path / "x.onnx", Ranges({}, "minmax", 2, ""))
    with refused(InputError, got="names to exclude"):
        to_fp8(
            graphs[19], tmp_path / "x.onnx", ranges, QuantizeOptions(nodes_to_exclude=frozenset({"nothing"}))
        )
    assert not (tmp_path / "x.onnx").exists()
