"""The emulation against torch's own 16-bit arithmetic, and against hand-computed numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.emulate import emulate, emulated_model
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.exporters.to_onnx import to_onnx
from tests.refusals import refused

KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
UNIT = {"fp16": 2.0**-11, "bf16": 2.0**-8}


def session(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def typed(
    precision: str, nodes: list[onnx.NodeProto], weights: Mapping[str, float | list[float]] | None = None
):
    """FP32 ``x`` -> cast to 16 bits -> the nodes, from ``h`` to ``r`` -> cast to FP32 ``y``."""
    kind = KINDS[precision]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    every = [
        helper.make_node("Cast", ["x"], ["h"], name="in", to=kind),
        *nodes,
        helper.make_node("Cast", ["r"], ["y"], name="out", to=TensorProto.FLOAT),
    ]
    tensors = [
        helper.make_tensor(name, kind, [] if np.ndim(value) == 0 else np.shape(value), np.ravel(value))
        for name, value in (weights or {}).items()
    ]
    graph = helper.make_graph(every, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def chain(precision: str, *steps: tuple[str, float]) -> onnx.ModelProto:
    """``Mul``, ``Add`` or ``Sub`` one after the other, each with a scalar."""
    names = ["h", *(f"v{i}" for i in range(len(steps) - 1)), "r"]
    nodes = [
        helper.make_node(op, [names[i], f"c{i}"], [names[i + 1]], name=f"n{i}")
        for i, (op, _) in enumerate(steps)
    ]
    return typed(precision, nodes, {f"c{i}": value for i, (_, value) in enumerate(steps)})


def run(model: onnx.ModelProto | Path, x: np.ndarray) -> np.ndarray:
    return session(model).run(None, {session(model).get_inputs()[0].name: x})[0]


def test_overflow_shows_which_onnxruntime_hides():
    model = chain("fp16", ("Mul", 300.0), ("Mul", 0.001))
    x = np.array([300, -300, 100], np.float32)  # 300 * 300 = 90000 > 65504
    plain = run(model, x)
    assert np.isfinite(plain).all(), (
        "onnxruntime shows the overflow itself: emulate() may no longer be needed"
    )
    result = run(emulated_model(model), x)
    assert result[0] == np.inf
    assert result[1] == -np.inf
    assert result[2] == pytest.approx(30, rel=2**-10)


@pytest.mark.parametrize(
    ("precision", "x", "steps", "expected"),
    [
        ("fp16", 2048, [("Add", 1), ("Sub", 2048)], 0),  # steps of 2 from 2048 on; a tie goes to even
        ("fp16", 2048, [("Add", 3), ("Sub", 2048)], 4),
        ("fp16", 1 + 2**-11, [("Sub", 1)], 0),  # the input itself is rounded
        ("fp16", 60000, [("Add", 5504), ("Sub", 60000)], 5504),  # 65504, the largest number
        ("fp16", 60000, [("Add", 5520), ("Sub", 60000)], np.inf),  # 65520, halfway to 2^16: to even
        ("bf16", 256, [("Add", 1), ("Sub", 256)], 0),
        ("bf16", 256, [("Add", 3), ("Sub", 256)], 4),
        ("bf16", 300, [("Mul", 300)], 90112),  # 90000 in steps of 512
        ("bf16", 1e38, [("Mul", 8), ("Mul", 0.125)], np.inf),
        ("fp16", 2.0**-14, [("Mul", 2.0**-10), ("Mul", 2.0**10)], 2.0**-14),  # the smallest subnormal
        ("fp16", 2.0**-14, [("Mul", 2.0**-12), ("Mul", 2.0**12)], 0),
    ],
)
def test_hand_computed(precision, x, steps, expected):
    model = emulated_model(chain(precision, *((op, float(value)) for op, value in steps)))
    assert run(model, np.array([x], np.float32))[0] == expected


def one(op: str, *inputs: str, **attributes) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["h", *inputs], ["r"], name="n", **attributes)]


RNG = np.random.default_rng(0)
VECTOR = RNG.standard_normal(16).round(2)
SQUARE = RNG.standard_normal((16, 16)).round(2)
KERNEL = RNG.standard_normal((4, 8, 3, 3)).round(2)
BIAS = RNG.standard_normal(4).round(2)
F = torch.nn.functional

# name: nodes, weights, the same in torch on 16-bit tensors, shape, rounding steps by which they may differ
OPS: dict[str, tuple[Any, ...]] = {
    "Add": (one("Add", "w"), {"w": VECTOR}, lambda h, w: h + w, (64, 16), 0),
    "Mul": (one("Mul", "w"), {"w": VECTOR}, lambda h, w: h * w, (64, 16), 0),
    "Div": (one("Div", "w"), {"w": VECTOR}, lambda h, w: h / w, (64, 16), 0),
    "Relu": (one("Relu"), {}, F.relu, (64, 16), 0),
    "Transpose": (one("Transpose", perm=[1, 0]), {}, lambda h: h.T, (64, 16), 0),
    "Sigmoid": (one("Sigmoid"), {}, torch.sigmoid, (64, 16), 1),
    "Tanh": (one("Tanh"), {}, torch.tanh, (64, 16), 1),
    "Erf": (one("Erf"), {}, torch.erf, (64, 16), 1),
    "Gelu": (one("Gelu"), {}, F.gelu, (64, 16), 1),
    "Softmax": (one("Softmax", axis=-1), {}, lambda h: h.softmax(-1), (64, 16), 1),
    "MatMul": (one("MatMul", "w"), {"w": SQUARE}, lambda h, w: h @ w, (64, 16), 1),
    "Conv": (
        one("Conv", "w", "b", pads=[1] * 4),
        {"w": KERNEL, "b": BIAS},
        lambda h, w, b: F.conv2d(h, w, b, padding=1),
        (2, 8, 7, 9),
        1,
    ),
    "LayerNormalization": (
        one("LayerNormalization", "w", "b", stash_type=1, epsilon=1e-5),
        {"w": VECTOR, "b": VECTOR},
        lambda h, w, b: F.layer_norm(h, [16], w, b),
        (64, 16),
        1,
    ),
}


@pytest.mark.parametrize("precision", KINDS)
@pytest.mark.parametrize("op", OPS)
def test_every_operator_rounds_as_torchs_16_bit_one(op, precision):
    nodes, weights, function, shape, steps = OPS[op]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 3
    h, *rest = (
        torch.from_numpy(np.asarray(v, np.float32)).to(DTYPES[precision]) for v in (x, *weights.values())
    )
    expected = function(h, *rest).float().numpy()
    result = run(emulated_model(typed(precision, nodes, weights)), x)
    again = torch.from_numpy(result).to(DTYPES[precision]).float().numpy()
    np.testing.assert_array_equal(result, again)  # every number is one of the 16-bit type
    if steps == 0:
        np.testing.assert_array_equal(result, expected)
    else:  # sums in another order fall to the other side of a tie, here and there
        tolerance = steps * 2 * UNIT[precision] * (np.abs(expected) + np.abs(expected).max() * 2**-9)
        assert (np.abs(result - expected) <= tolerance).all()
        assert (result == expected).mean() > 0.9


def test_weights_are_widened_exactly_however_they_are_stored():
    weights = RNG.standard_normal((5, 3)).astype(np.float32)
    for precision, kind in KINDS.items():
        rounded = torch.from_numpy(weights).to(DTYPES[precision])
        raw = rounded.view(torch.int16).numpy().tobytes()
        model = typed(precision, one("MatMul", "w"))
        for tensor in (
            helper.make_tensor("w", kind, [5, 3], raw, raw=True),
            helper.make_tensor("w", kind, [5, 3], weights.ravel()),
        ):
            copy = onnx.ModelProto.FromString(model.SerializeToString())
            copy.graph.initializer.append(tensor)
            (widened,) = emulated_model(copy).graph.initializer
            assert widened.data_type == TensorProto.FLOAT
            np.testing.assert_array_equal(numpy_helper.to_array(widened), rounded.float().numpy())


def test_quantising_nodes_are_left_as_they_are():
    nodes = [
        helper.make_node("Cast", ["h"], ["wide"], name="c", to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["wide", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("Cast", ["d"], ["r"], name="n", to=TensorProto.FLOAT16),
    ]
    model = typed("fp16", nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "s"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "z"))
    result = run(emulated_model(model), np.array([0.1234, 3.0, 100], np.float32))
    expected = (np.array([1, 30, 127]) * np.float32(0.1)).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(result, expected)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 1


def test_unknown_types_are_refused_not_skipped():
    model = typed("fp16", one("Strange", domain="somewhere"))
    model.opset_import.append(helper.make_opsetid("somewhere", 1))
    with refused(ExportError, got="types of 1 tensors are unknown, such as r"):
        emulated_model(model)


@pytest.mark.parametrize(("precision", "opset"), [("fp16", 17), ("fp16", 20), ("fp16", 25), ("bf16", 22)])
def test_the_whole_network_errs_as_much_as_torchs_16_bit_network(
    precision, opset, tiny_model, make_model, pixels, tmp_path
):
    source = to_onnx(tiny_model, tmp_path / "m.onnx", OnnxOptions(opset))
    path = emulate(to_half(source, tmp_path / "h.onnx", HalfOptions(precision)), tmp_path / "e.onnx")
    x = pixels(1, 96, 128)
    with torch.inference_mode():
        reference = tiny_model(torch.from_numpy(x)).predicted_depth.numpy()
        half = make_model().to(DTYPES[precision])
        theirs = half(torch.from_numpy(x).to(DTYPES[precision])).predicted_depth.float().numpy()
    ours = run(path, x)
    error, expected = (float((np.abs(y - reference) / reference).mean()) for y in (ours, theirs))
    assert 0.2 < error / expected < 2


def test_input_and_output_are_fp32_whatever_the_sources_are(tiny_onnx, pixels, tmp_path):
    half = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions(io="half"))
    path = emulate(half, tmp_path / "e.onnx")
    model = load_graph(path)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert not {t.data_type for t in model.graph.initializer} & set(KINDS.values())
    x = pixels(1, 32, 64)
    depth = run(path, x)
    np.testing.assert_array_equal(depth, depth.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(depth, run(path, x.astype(np.float16).astype(np.float32)))
