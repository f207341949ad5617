"""The 16-bit graph: types, casts, weights, what is kept, and how near its depth stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy import GLPNConfig
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.graph.emulate import emulate
from glpn_deploy.exporters.graph.graph_edit import load_graph, tensor_types
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_half import HalfOptions, to_half, unrepresentable
from glpn_deploy.exporters.to_onnx import to_onnx
from tests.refusals import refused

KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
NYU = {"depths": (3, 8, 27, 3), "hidden_sizes": (64, 128, 320, 512)}
CONV = "glpn.encoder.patch_embeddings.1.proj"


def run(path: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": x})[0]


def op_counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in load_graph(path).graph.node)


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in load_graph(path).graph.initializer}


def with_weight(source: Path, target: Path, name: str, change) -> Path:
    """The graph with one weight changed."""
    model = load_graph(source)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
            onnx.save(model, str(target))
            return target
    raise AssertionError(f"no weight {name}")


@pytest.fixture(scope="module")
def tiny22(tiny_model, tmp_path_factory) -> Path:
    return to_onnx(tiny_model, tmp_path_factory.mktemp("opset22") / "model.onnx", OnnxOptions(22))


@pytest.fixture(scope="module")
def names(tiny_onnx) -> list[str]:
    return [node.name for node in load_graph(tiny_onnx).graph.node]


# The figures asked for --------------------------------------------------------------------------------


@pytest.mark.slow
def test_glpn_nyus_architecture_halves_with_two_casts(make_model, tmp_path):
    source = to_onnx(make_model(GLPNConfig(**NYU)), tmp_path / "m.onnx")
    path = to_half(source, tmp_path / "h.onnx")
    assert op_counts(path)["Cast"] == 2
    assert path.stat().st_size <= 0.51 * source.stat().st_size


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.001), ("bf16", 0.01)])
def test_depth_stays_within_the_budget(precision, most, tiny22, pixels, tmp_path):
    path = emulate(to_half(tiny22, tmp_path / "h.onnx", HalfOptions(precision)), tmp_path / "e.onnx")
    x = pixels(2, 64, 96)
    reference = run(tiny22, x)
    difference = np.abs(run(path, x) - reference)
    assert 0 < (difference / reference).mean() <= most


# Types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["gelu", "relu", "silu", "gelu_new"])
@pytest.mark.parametrize("precision", KINDS)
def test_all_but_the_tail_is_half(precision, act, tiny_config, make_model, tmp_path):
    model = make_model(tiny_config.replace(hidden_act=act))
    source = to_onnx(model, tmp_path / "m.onnx", OnnxOptions(22, form="tensorrt"))
    model = load_graph(to_half(source, tmp_path / "h.onnx", HalfOptions(precision)))
    types = tensor_types(model)
    fp32 = {n.name for n in model.graph.node if types[n.output[0]] == TensorProto.FLOAT}
    # Everything behind the last convolution is one channel, and FP32 where the output is.
    assert fp32 == {"head/Sigmoid", "head/Reshape", "head/Mul", "head.head.2/Conv/Cast"}
    assert [types[v.name] for v in (*model.graph.input, *model.graph.output)] == [TensorProto.FLOAT] * 2
    assert {types[n.output[0]] for n in model.graph.node if n.op_type == "Shape"} == {TensorProto.INT64}
    floats = {t.name: t.data_type for t in model.graph.initializer if t.data_type != TensorProto.INT64}
    left = {name for name, kind in floats.items() if kind != KINDS[precision]}
    assert left == {"scales_2", "scalar_10.0"}
    norms = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    assert norms
    assert {a.i for n in norms for a in n.attribute if a.name == "stash_type"} == {TensorProto.FLOAT}
    assert all(any(a.name == "stash_type" for a in n.attribute) for n in norms)


def test_weights_are_those_of_torch(tiny22, tmp_path):
    before = arrays(tiny22)
    for precision, dtype in DTYPES.items():
        model = load_graph(to_half(tiny22, tmp_path / f"{precision}.onnx", HalfOptions(precision)))
        converted = [t for t in model.graph.initializer if t.data_type == KINDS[precision]]
        assert len(converted) > 100
        for tensor in converted:
            expected = torch.tensor(before[tensor.name]).to(dtype).contiguous()
            assert tensor.raw_data == expected.view(torch.int16).numpy().tobytes()
            assert tuple(tensor.dims) == before[tensor.name].shape


def test_half_input_and_output(tiny_onnx, pixels, tmp_path):
    path = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(io="half"))
    assert op_counts(path)["Cast"] == 0
    depth = run(path, pixels(1, 64, 32).astype(np.float16))
    assert depth.dtype == np.float16
    np.testing.assert_allclose(depth, run(tiny_onnx, pixels(1, 64, 32)), rtol=0.01)


def test_a_head_in_fp32_can_give_half_output_and_be_emulated(tiny_onnx, pixels, tmp_path):
    head = frozenset(node.name for node in load_graph(tiny_onnx).graph.node if node.name.startswith("head"))
    path = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(fp32_nodes=head, io="half"))
    x = pixels(1, 64, 32)
    depth, emulated = run(path, x.astype(np.float16)), run(emulate(path, tmp_path / "e.onnx"), x)
    assert (depth.dtype, emulated.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(emulated, emulated.astype(np.float16))
    np.testing.assert_allclose(depth, emulated, rtol=0.01)


@pytest.mark.parametrize("opset", range(17, 26))
def test_every_opset(opset, tiny_model, pixels, tmp_path):
    source = to_onnx(tiny_model, tmp_path / "m.onnx", OnnxOptions(opset))
    path = to_half(source, tmp_path / "h.onnx")  # checked against ONNX's own type rules as it is written
    assert op_counts(path)["Cast"] == 2
    x = pixels(1, 32, 32)
    np.testing.assert_allclose(run(path, x), run(source, x), rtol=5e-3)
    options = HalfOptions("bf16")
    if opset >= 22:
        assert op_counts(to_half(source, tmp_path / "b.onnx", options))["Cast"] == 2
    else:
        with refused(ExportError, got=f"opset {opset} has no BF16 ", fix="--opset 22"):
            to_half(source, tmp_path / "b.onnx", options)


def test_metadata_and_bytes(tiny_onnx, tmp_path):
    first = to_half(tiny_onnx, tmp_path / "a.onnx")
    assert first.read_bytes() == to_half(tiny_onnx, tmp_path / "b.onnx").read_bytes()
    before, after = ({e.key: e.value for e in load_graph(p).metadata_props} for p in (tiny_onnx, first))
    assert after == before | {"precision": "fp16"}
    assert load_graph(first).producer_name == "glpn-deploy"
    assert not load_graph(first).graph.value_info


# Kept nodes -------------------------------------------------------------------------------------------


def test_with_all_nodes_kept_nothing_changes(tiny22, names, pixels, tmp_path):
    kept = frozenset(node.name for node in load_graph(tiny22).graph.node)
    for precision in KINDS:
        path = to_half(tiny22, tmp_path / f"{precision}.onnx", HalfOptions(precision, kept))
        np.testing.assert_array_equal(run(path, pixels(2, 64, 32)), run(tiny22, pixels(2, 64, 32)))
        assert op_counts(path) == op_counts(tiny22)


@hypothesis.settings(
    max_examples=20, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(data=st.data())
def test_any_kept_nodes_give_a_valid_graph(data, tiny22, tmp_path):
    """Written graphs are checked by ONNX's own type inference; here are our promises beside that."""
    every = [node.name for node in load_graph(tiny22).graph.node]
    share = data.draw(st.sampled_from([0.02, 0.3, 0.7, 0.98]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kept = frozenset(name for name in every if rng.random() < share)
    options = HalfOptions(
        data.draw(st.sampled_from(["fp16", "bf16"])), kept, data.draw(st.sampled_from(["fp32", "half"]))
    )
    model = load_graph(to_half(tiny22, tmp_path / "h.onnx", options))
    types = tensor_types(model)
    nodes = {node.name: node for node in model.graph.node}
    for name in kept:
        results = [types[out] for out in nodes[name].output]
        assert all(kind in (TensorProto.FLOAT, TensorProto.INT64) for kind in results)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert len({(node.input[0], node.attribute[0].i) for node in casts}) == len(casts)
    cast = {node.output[0] for node in casts}
    assert not any(node.input[0] in cast for node in casts), "a cast of a cast"
    read = {name for node in model.graph.node for name in node.input}
    assert {t.name for t in model.graph.initializer} <= read
    if share == 0.02:  # few enough to run
        x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
        np.testing.assert_allclose(
            run(emulate(tmp_path / "h.onnx", tmp_path / "e.onnx"), x), run(tiny22, x), rtol=0.1
        )


def test_a_weight_used_by_both_kinds_is_there_in_both_types(tiny_onnx, tmp_path):
    kept = frozenset({"glpn.encoder.block.0.0.mlp/Div"})
    path = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(fp32_nodes=kept))
    types = {t.name: t.data_type for t in load_graph(path).graph.initializer}
    root = next(name for name in types if name.startswith("scalar_1.41"))
    shared = root.removesuffix("/fp16")
    assert types[shared] == TensorProto.FLOAT
    assert types[f"{shared}/fp16"] == TensorProto.FLOAT16


def test_one_cast_serves_all_readers(tiny_onnx, tmp_path):
    """The residual sum is read by the next normalisation and by the next sum."""
    total = "glpn.encoder.block.1.0.mlp/Add_2"  # the first Add is Gelu's
    path = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(fp32_nodes=frozenset({total})))
    nodes = load_graph(path).graph.node
    made = [node.output[0] for node in nodes if node.op_type == "Cast" and node.input[0] == total]
    assert len(made) == 1
    assert sum(made[0] in node.input for node in nodes) == 2
    assert op_counts(path)["Cast"] == 2 + 3  # both summands and the sum


def test_what_only_moves_numbers_between_fp32_nodes_is_fp32(tiny_onnx, tmp_path):
    scope = "glpn.encoder.patch_embeddings.1"
    kept = frozenset({f"{scope}.proj/Conv", f"{scope}.layer_norm/LayerNormalization"})
    path = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(fp32_nodes=kept))
    types = tensor_types(load_graph(path))
    assert types[f"{scope}/Transpose"] == types[f"{scope}/Reshape"] == TensorProto.FLOAT
    assert op_counts(path)["Cast"] == 2 + 2


# Weights beyond the type ------------------------------------------------------------------------------


def test_a_node_with_several_weights_that_overflow_is_counted_once(tiny_onnx, tmp_path):
    huge = with_weight(tiny_onnx, tmp_path / "huge.onnx", f"{CONV}.weight", lambda x: x + 1e5)
    with_weight(huge, huge, f"{CONV}.bias", lambda x: x + 1e5)
    with refused(ExportError, got=f"the weights of 1 nodes overflow fp16: {CONV}/Conv"):
        to_half(huge, tmp_path / "h.onnx")


def test_overflowing_weights_are_named_and_can_be_kept(tiny_onnx, tiny22, tmp_path):
    def enlarge(w):
        w.flat[3] = 7e4
        return w

    source = with_weight(tiny_onnx, tmp_path / "m.onnx", f"{CONV}.weight", enlarge)
    with refused(ExportError, got=f"1 nodes overflow fp16: {CONV}/Conv", expected="at most 65504"):
        to_half(source, tmp_path / "h.onnx")
    assert not (tmp_path / "h.onnx").exists()
    assert unrepresentable(source, "fp16") == [f"{CONV}/Conv"]
    assert unrepresentable(source, "bf16") == []
    path = to_half(
        source, tmp_path / "h.onnx", HalfOptions(fp32_nodes=frozenset(unrepresentable(source, "fp16")))
    )
    assert arrays(path)[f"{CONV}.weight"].flat[3] == 7e4
    large = with_weight(tiny22, tmp_path / "large.onnx", f"{CONV}.bias", lambda b: b + np.float32(3.4e38))
    with refused(ExportError, got="overflow bf16"):
        to_half(large, tmp_path / "b.onnx", HalfOptions("bf16"))


@pytest.mark.parametrize(("weight", "listed"), [("weight", True), ("bias", False)])
def test_subnormal_weights_are_listed_where_they_multiply(weight, listed, tiny_onnx, tmp_path):
    source = with_weight(tiny_onnx, tmp_path / "m.onnx", f"{CONV}.{weight}", lambda w: w * np.float32(1e-6))
    assert unrepresentable(tiny_onnx, "fp16") == []
    assert unrepresentable(source, "fp16") == ([f"{CONV}/Conv"] if listed else [])
    assert unrepresentable(source, "bf16") == []
    to_half(source, tmp_path / "h.onnx")  # rounded, not refused


def test_a_scale_beyond_fp16_needs_the_fp32_output(tiny_onnx, tmp_path):
    model, source = load_graph(tiny_onnx), tmp_path / "m.onnx"
    (scale,) = (node.input[1] for node in model.graph.node if node.name == "head/Mul")
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == scale)
    tensor.CopyFrom(numpy_helper.from_array(np.float32(1e5), scale))
    onnx.save(model, source)
    to_half(source, tmp_path / "h.onnx")
    with refused(ExportError, got="overflow fp16: head/Mul"):
        to_half(source, tmp_path / "h.onnx", HalfOptions(io="half"))


# Wrong use --------------------------------------------------------------------------------------------


def test_a_converted_graph_is_refused(tiny_onnx, tmp_path):
    half = to_half(tiny_onnx, tmp_path / "h.onnx")
    with refused(ExportError, got="already converted (fp16)"):
        to_half(half, tmp_path / "again.onnx")
    model = load_graph(tiny_onnx)
    model.graph.node.append(
        helper.make_node("QuantizeLinear", ["pixel_values", "scalar_10.0"], ["q"], name="quantise")
    )
    onnx.save(model, str(tmp_path / "q.onnx"))
    with refused(ExportError, got="already quantized (int8)"):
        to_half(tmp_path / "q.onnx", tmp_path / "again.onnx")


def test_unknown_options_are_refused(tiny_onnx, tmp_path):
    with refused(InputError, got="the precision is 'fp8'", expected="fp16 or bf16"):
        HalfOptions("fp8")
    with refused(InputError, got="io is 'int8'"):
        HalfOptions(io="int8")
    with refused(InputError, got="no nodes of the graph, such as nothing/Conv"):
        to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(fp32_nodes=frozenset({"nothing/Conv"})))
