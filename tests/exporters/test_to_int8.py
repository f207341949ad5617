"""INT8 graphs against onnxruntime.quantization, and what TensorRT and CPUs are promised of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from glpn_deploy import GLPNConfig, GLPNImageProcessor
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.calibration.calibration import Ranges, calibrate, random_images
from glpn_deploy.exporters.graph.emulate import emulate
from glpn_deploy.exporters.graph.graph_edit import precision_of, tensor_types
from glpn_deploy.exporters.graph.topology.kinds import node_kinds
from glpn_deploy.exporters.options import CalibrationOptions, OnnxOptions
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.exporters.to_int8 import KINDS, describe_int8, int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.typed_qdq import QuantizeOptions
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()
pytestmark = pytest.mark.filterwarnings("ignore:There are .* calibration images")
WIDE = GLPNConfig(  # wide enough for TensorRT's kernels
    depths=(1, 1, 1, 1),
    hidden_sizes=(16, 32, 48, 64),
    num_attention_heads=(1, 2, 3, 4),
    mlp_ratios=(2, 2, 2, 2),
    decoder_hidden_size=32,
)
OPSETS = (17, 20, 23)
CPU = QuantizeOptions(target="cpu")
TENSORRT = QuantizeOptions()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return random_images(16, 64, 96)


@pytest.fixture(scope="module")
def graphs(make_model, tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("wide")
    model = make_model(WIDE)
    return {opset: to_onnx(model, folder / f"{opset}.onnx", OnnxOptions(opset)) for opset in OPSETS}


@pytest.fixture(scope="module")
def make(graphs, images, tmp_path_factory):
    """Quantises the graph of an opset; ranges and files are made once for each recipe."""
    folder, made = tmp_path_factory.mktemp("int8"), {}

    def build(opset: int = 17, options: QuantizeOptions = TENSORRT) -> Path:
        if (opset, options) not in made:
            ranges = calibrate(graphs[opset], images, PROCESSOR, int8_tensors(graphs[opset], options))
            path = folder / f"{len(made)}.onnx"
            made[opset, options] = to_int8(graphs[opset], path, ranges, options)
        return made[opset, options]

    return build


def run(path, image, *, fuse=False) -> np.ndarray:
    """Depth; unless ``fuse``, Q/DQ pairs are computed as they stand, not by the CPU's integer kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not fuse:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": PROCESSOR.prepare(image)[None]})[0]


def abs_rel(path, reference, image, **how) -> float:
    expected = run(reference, image)
    return float(np.mean(np.abs(run(path, image, **how) - expected) / expected))


def initializers(model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def by_output(model) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def quantised(model) -> list[str]:
    """Names of the nodes whose first two inputs both come out of DequantizeLinear."""
    made = by_output(model)
    return [
        node.name
        for node in model.graph.node
        if len(node.input) > 1
        and node.op_type in ("Conv", "MatMul", "Add")
        and all(name in made and made[name].op_type == "DequantizeLinear" for name in node.input[:2])
    ]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("options", [TENSORRT, CPU], ids=["tensorrt", "cpu"])
def test_depth_stays(make, graphs, images, opset, options):
    assert 0 < abs_rel(make(opset, options), graphs[opset], images[0]) < 0.03


def test_depth_stays_in_the_cpus_integer_kernels(make, graphs, images):
    assert abs_rel(make(17, CPU), graphs[17], images[0], fuse=True) < 0.03


@pytest.mark.parametrize("opset", [20, 23])
def test_a_session_of_defaults_is_right_from_opset_19_on(make, graphs, images, opset):
    """Its optimizer made integers of the biases, in FP16, where a Relu and a pair follow (0.05 off)."""
    path = make(opset)
    apart = abs_rel(path, graphs[opset], images[0])
    assert abs(abs_rel(path, graphs[opset], images[0], fuse=True) - apart) < 0.3 * apart
    biased = [node for node in onnx.load(path).graph.node if node.name.endswith("/bias")]
    assert len(biased) == 6


@pytest.mark.parametrize("opset", OPSETS)
def test_tensorrt_pairs_are_symmetric_with_explicit_zeros(make, opset):
    model = onnx.load(make(opset))
    values = initializers(model)
    scale_type = np.float32 if opset < 19 else np.float16
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 60
    for node in pairs:
        _, scale, zero = node.input
        assert values[zero].dtype == np.int8
        assert not values[zero].any()
        assert values[zero].shape == values[scale].shape
        assert (values[scale] > 0).all()
        assert values[scale].dtype == scale_type
    made = by_output(model)
    for node in pairs:
        if node.op_type == "DequantizeLinear" and node.input[0] not in values:
            assert made[node.input[0]].op_type == "QuantizeLinear"
            assert made[node.input[0]].input[1:] == node.input[1:]


@pytest.mark.parametrize("opset", OPSETS)
def test_tensorrt_quantises_what_it_says(make, graphs, opset):
    kinds = node_kinds(onnx.load(graphs[opset]))
    wanted = [name for name, kind in kinds.items() if kind in KINDS["tensorrt"]]
    assert quantised(onnx.load(make(opset))) == wanted
    counts = Counter(kinds.values())
    assert counts == {
        "first": 1, "last": 38, "depthwise": 4, "residual": 8, "attention": 8,
        "linear": 16, "pointwise": 11, "convolution": 15,
    }  # fmt: skip


def test_what_surrounds_the_pairs_is_fp16(make):
    for opset in (17, 20):
        model = onnx.load(make(opset))
        inferred = onnx.shape_inference.infer_shapes(model)
        types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
        floats = Counter(
            types[node.output[0]] for node in model.graph.node if node.op_type == "LayerNormalization"
        )
        assert set(floats) == {TensorProto.FLOAT16}
        casts = sum(node.op_type == "Cast" for node in model.graph.node)
        assert casts <= 2 if opset >= 19 else casts <= 2 * len(quantised(model)) + 2
        assert precision_of(model) == "int8"


@pytest.mark.parametrize(
    ("opset", "options", "high"), [(17, TENSORRT, 127), (20, TENSORRT, 127), (17, CPU, 64)]
)
def test_weights_are_stored_as_integers_by_output_channel(make, graphs, opset, options, high):
    model, source = onnx.load(make(opset, options)), initializers(onnx.load(graphs[opset]))
    values, made = initializers(model), by_output(model)
    plain = {node.name: node for node in onnx.load(graphs[opset]).graph.node}
    names = [n for n in quantised(model) if plain[n].input[1] in source]
    assert len(names) >= 40
    for node in model.graph.node:
        if node.name not in names:
            continue
        stored, scale, _ = (values[name] for name in made[node.input[1]].input)
        weight = source[plain[node.name].input[1]]
        axis = 0 if node.op_type == "Conv" else 1
        assert made[node.input[1]].attribute[0].i == axis
        assert stored.dtype == np.int8
        others = tuple(i for i in range(weight.ndim) if i != axis)
        np.testing.assert_allclose(scale, np.abs(weight).max(axis=others) / high, rtol=2e-3, atol=1e-7)
        steps = scale.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        assert (np.abs(stored * steps - weight) <= 0.5001 * steps).all()
        if options is TENSORRT and len(node.input) > 2:
            assert values[node.input[2]].dtype in (np.float32, np.float16)  # no bias quantisation
    body = {name: value for name, value in values.items() if not name.startswith("head")}
    floats = [v.size for v in body.values() if v.dtype in (np.float32, np.float16) and v.ndim > 1]
    share = 0.05 if options is CPU else 0.07  # depthwise in FP16
    assert sum(floats) < share * sum(v.size for v in body.values())


class Reader:
    """The calibration images, as onnxruntime.quantization wants them."""

    def __init__(self, images):
        self.feeds = [{"pixel_values": PROCESSOR.prepare(image)[None]} for image in images]

    def get_next(self):
        return self.feeds.pop() if self.feeds else None


@pytest.mark.slow
def test_scales_and_depth_are_those_of_onnxruntimes_quantiser(make, graphs, images, tmp_path):
    model = onnx.load(make(17))
    quantize_static(
        str(graphs[17]),
        str(tmp_path / "theirs.onnx"),
        Reader(images),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=quantised(model),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
        },
    )
    theirs = onnx.load(tmp_path / "theirs.onnx")
    their_values, our_values = initializers(theirs), initializers(model)
    compared = 0
    for node in model.graph.node:
        name = node.input[0].removesuffix("/Cast")
        if node.op_type == "QuantizeLinear" and f"{name}_scale" in their_values:
            expected = their_values[f"{name}_scale"]
            np.testing.assert_allclose(our_values[node.input[1]], expected, rtol=1e-4)
            compared += 1
    assert compared > 30
    image = random_images(1, 64, 96, seed=9)[0]
    reference = run(graphs[17], image)
    error = np.abs(run(tmp_path / "theirs.onnx", image) - reference)
    ours = np.abs(run(make(17), image) - reference)
    assert ours.mean() < 1.2 * error.mean()  # the rest is FP32 in theirs, FP16 in ours


def test_cpus_get_integer_kernels(make, tmp_path):
    """Every quantised convolution becomes QLinearConv once ONNX Runtime has optimised the graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(make(17, CPU)), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert counts["QLinearConv"] == 11 + 15 + 4
    products = {name: counts[name] for name in ("MatMulIntegerToFloat", "QLinearMatMul", "MatMul")}
    assert products == {"MatMulIntegerToFloat": 12, "QLinearMatMul": 12, "MatMul": 0}


def test_attention_on_cpus_has_seven_bits_where_a_weight_would_stand(make, graphs, images):
    """UINT8 by INT8 then cannot saturate; the ranges are those of the tensors before."""
    model = onnx.load(make(17, CPU))
    values, made = initializers(model), by_output(model)
    products = [
        n for n in model.graph.node if n.op_type == "MatMul" and made[n.input[1]].input[0] not in values
    ]
    assert len(products) == 8
    tensors = [name.removesuffix("/dq") for node in products for name in node.input]
    ranges = calibrate(graphs[17], images, PROCESSOR, tensors)
    for node in products:
        for slot, pair in enumerate(node.input):
            quantize = made[made[pair].input[0]]
            scale, zero = (values[name] for name in quantize.input[1:])
            low, high = ranges.limits[quantize.input[0]]
            if slot == 0 and made[quantize.input[0]].op_type == "Softmax":
                assert (zero.dtype, int(zero)) == (np.uint8, 0)
                np.testing.assert_allclose(scale, high / 255, rtol=1e-5)
            else:
                assert (zero.dtype, int(zero)) == (np.int8, 0)
                np.testing.assert_allclose(scale, max(-low, high) / (64 if slot else 127), rtol=1e-5)
    others = [
        made[made[n.input[0]].input[0]]
        for n in model.graph.node
        if n.op_type in ("Conv", "MatMul")
        and n not in products
        and n.input[0] in made
        and made[n.input[0]].op_type == "DequantizeLinear"
    ]
    assert {values[node.input[2]].dtype.name for node in others} == {"uint8"}


@pytest.mark.parametrize("options", [TENSORRT, CPU])
def test_no_two_weights_share_a_zero_point(make, options):
    """OpenVINO takes shared ones for numbers unknown, and multiplies in FP32."""
    model = onnx.load(make(17, options))
    stored = initializers(model)
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    zeros = [node.input[2] for node in weights if len(node.input) == 3]
    assert len(zeros) > 20
    assert len(set(zeros)) == len(zeros)


def test_kept_nodes_stay(make, graphs):
    every = quantised(onnx.load(make(17)))
    kept = frozenset(every[::5])
    for options in (
        QuantizeOptions(nodes_to_exclude=kept),
        QuantizeOptions(target="cpu", nodes_to_exclude=kept),
    ):
        left = quantised(onnx.load(make(17, options)))
        assert not kept & set(left)
        assert set(left) >= set(every) - kept - {n for n in every if "dwconv" in n}


def test_narrow_convolutions_are_left_to_fp16(tiny_onnx, images, tmp_path):
    """TensorRT has no 8-bit kernel for them; see `typed_qdq.with_kernel`."""
    ranges = calibrate(tiny_onnx, images[:2], PROCESSOR, int8_tensors(tiny_onnx))
    names = quantised(onnx.load(to_int8(tiny_onnx, tmp_path / "int8.onnx", ranges)))
    assert "glpn.encoder.block.0.0.attention.self.query/MatMul" in names
    assert "head.head.0/Conv" not in names  # 6 channels
    assert not [name for name in names if "dwconv" in name]  # NVIDIA's compiler expands quantized ones


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_a_large_network_shrinks_to_thirty_percent(make_model, tmp_path, target):
    config = GLPNConfig(depths=(1, 1, 1, 1), hidden_sizes=(64, 128, 320, 512))  # glpn-nyu's widths
    source = to_onnx(make_model(config), tmp_path / "model.onnx")
    options = QuantizeOptions(target=target)
    ranges = Ranges(dict.fromkeys(int8_tensors(source, options), (-1.0, 2.0)), "minmax", 2, "")
    path = to_int8(source, tmp_path / "int8.onnx", ranges, options)
    assert path.stat().st_size <= 0.3 * source.stat().st_size


@pytest.mark.parametrize("options", [TENSORRT, CPU], ids=["tensorrt", "cpu"])
def test_the_same_bytes_every_time(make, graphs, images, tmp_path, options):
    ranges = calibrate(graphs[17], images, PROCESSOR, int8_tensors(graphs[17], options))
    again = to_int8(graphs[17], tmp_path / "again.onnx", ranges, options)
    assert (
        hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(make(17, options).read_bytes()).digest()
    )


def test_a_zero_channel_and_a_dead_tensor(graphs, images, tmp_path):
    model = onnx.load(graphs[17])
    for tensor in model.graph.initializer:
        if tensor.name == "head.head.0.weight":
            weight = numpy_helper.to_array(tensor).copy()
            weight[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, tmp_path / "dead.onnx")
    for options in (TENSORRT, CPU):
        tensors = int8_tensors(tmp_path / "dead.onnx", options)
        limits = dict(calibrate(graphs[17], images, PROCESSOR, tensors).limits)
        limits["glpn.encoder.block.0.0.attention.self/Reshape"] = (0.0, 0.0)
        path = to_int8(
            tmp_path / "dead.onnx", tmp_path / "int8.onnx", Ranges(limits, "minmax", 2, ""), options
        )
        assert np.isfinite(run(path, images[0], fuse=True)).all()


def test_the_recipe_in_words():
    assert describe_int8(TENSORRT)["rest"] == "fp16"
    assert describe_int8(CPU)["not_quantised"] == ["first", "last", "residual"]
    left = sorted([*describe_int8(CPU)["not_quantised"], "attention", "depthwise", "head"])
    assert describe_int8(TENSORRT)["not_quantised"] == left


# Refusals ---------------------------------------------------------------------------------------------


def test_sources_that_are_no_fp32_graph(make, graphs, tmp_path):
    ranges = Ranges({}, "minmax", 2, "")
    half = to_half(graphs[17], tmp_path / "fp16.onnx")
    for source, word in ((half, "converted"), (make(17), "quantized"), (make(17, CPU), "quantized")):
        with refused(ExportError, got=f"already {word}", fix="model.onnx"):
            to_int8(source, tmp_path / "out.onnx", ranges)
        with refused(ExportError, got=f"already {word}"):
            int8_tensors(source)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("options", [TENSORRT, CPU], ids=["tensorrt", "cpu"])
def test_ranges_of_another_graph(graphs, tmp_path, options):
    with refused(ExportError, got=("no range for", "tensors are missing"), fix="same options"):
        to_int8(graphs[17], tmp_path / "out.onnx", Ranges({}, "minmax", 2, ""), options)


def test_names_that_are_no_nodes(graphs):
    with refused(InputError, got=("1 names to exclude", "such as nothing")):
        int8_tensors(graphs[17], QuantizeOptions(nodes_to_exclude=frozenset({"nothing"})))


@pytest.mark.parametrize("opset", [17, 20])
def test_nodes_that_fp16_cannot_hold_are_fp32_and_stay_quantised(make, graphs, images, tmp_path, opset):
    """A norm and the product behind it; the product's weights are beyond FP16 in their own right."""
    norm, product = (f"glpn.encoder.block.1.0.{name}" for name in ("layer_norm_1", "attention.self.query"))
    model = onnx.load(graphs[opset])
    for tensor in model.graph.initializer:
        if tensor.name in (f"{norm}.weight", f"{norm}.bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2.0**20, tensor.name))
    onnx.save(model, tmp_path / "high.onnx")
    full = frozenset(node.name for node in model.graph.node if node.name.startswith((norm, product)))
    ranges = calibrate(tmp_path / "high.onnx", images, PROCESSOR, int8_tensors(tmp_path / "high.onnx"))
    with refused(ExportError, got=f"of 1 nodes overflow fp16: {norm}/LayerNormalization", fix="leave"):
        to_int8(tmp_path / "high.onnx", tmp_path / "int8.onnx", ranges)
    path = to_int8(tmp_path / "high.onnx", tmp_path / "int8.onnx", ranges, QuantizeOptions(fp32_nodes=full))
    graph = onnx.load(path)
    assert quantised(graph) == quantised(onnx.load(make(opset)))
    types = tensor_types(graph)
    for node in graph.graph.node:
        if node.name in full:
            assert {types[name] for name in node.output} == {TensorProto.FLOAT}
    pair = by_output(graph)[by_output(graph)[f"{product}/MatMul"].input[0]]
    assert types[pair.input[1]] == TensorProto.FLOAT
    assert float(initializers(graph)[pair.input[1]]) > 2.0**20 / 127


def test_a_name_to_be_fp32_that_is_no_node(graphs, tmp_path):
    ranges = Ranges(dict.fromkeys(int8_tensors(graphs[17]), (-1.0, 1.0)), "minmax", 2, "")
    with refused(InputError, got=("1 names to be FP32", "such as nothing")):
        to_int8(graphs[17], tmp_path / "out.onnx", ranges, QuantizeOptions(fp32_nodes=frozenset({"nothing"})))


@pytest.mark.parametrize(("opset", "casts"), [(17, True), (20, False)])
def test_half_precision_input_and_output(make, graphs, images, opset, casts):
    path = make(opset, QuantizeOptions(io="half"))
    graph = onnx.load(path).graph
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert ends == [TensorProto.FLOAT16] * 2
    session = ort.InferenceSession(
        str(emulate(path, path.with_suffix(".fp32.onnx"))), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"pixel_values": PROCESSOR.prepare(images[0])[None]})[0]
    expected = run(graphs[opset], images[0])
    assert 0 < np.mean(np.abs(found - expected) / expected) < 0.03
    np.testing.assert_array_equal(found, found.astype(np.float16))
    assert any(node.op_type == "Cast" for node in graph.node) is casts  # only around FP32 pairs


@pytest.mark.parametrize("bad", [{"target": "gpu"}, {"target": "cpu", "io": "half"}])
def test_recipes_that_do_not_exist(bad):
    with pytest.raises(InputError, match=r"target|for cpu"):
        QuantizeOptions(**bad)


@pytest.mark.slow
def test_methods_agree_on_plain_networks(graphs, images, tmp_path):
    """Clipping gives other scales, and still a usable depth."""
    tensors = int8_tensors(graphs[17])
    errors = {}
    for method in ("minmax", "percentile"):
        ranges = calibrate(graphs[17], images[:4], PROCESSOR, tensors, CalibrationOptions(method, 99.9))
        errors[method] = abs_rel(
            to_int8(graphs[17], tmp_path / f"{method}.onnx", ranges), graphs[17], images[0]
        )
    assert len(set(errors.values())) == 2
    assert max(errors.values()) < 0.05


@pytest.mark.parametrize("opset", [17, 20])
def test_rounding_of_the_tensorrt_form_is_that_of_numpy(make, opset):
    """One pair by hand: clip(round(x / scale), -128, 127) * scale, ties to even."""
    model = onnx.load(make(opset))
    values = initializers(model)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    scale = values[node.input[1]]
    x = (np.linspace(-200, 200, 801) * scale).astype(scale.dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    back = next(
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == node.output[0]
    )
    graph = onnx.helper.make_graph(
        [node, back],
        "pair",
        [onnx.helper.make_tensor_value_info(node.input[0], kind, [801])],
        [onnx.helper.make_tensor_value_info(back.output[0], kind, [801])],
        [t for t in model.graph.initializer if t.name in node.input],
    )
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {node.input[0]: x})
    steps = np.clip(np.rint(x.astype(np.float32) / scale.astype(np.float32)), -128, 127)
    np.testing.assert_allclose(found.astype(np.float32), steps * scale.astype(np.float32), rtol=1e-3)
