"""What an ONNX file may hold: other exporters' networks are taken, what can end or stall a process is not."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnx.defs
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import BundleError
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import check_file
from glpn_deploy.runtimes.onnx_file.operators import OPERATORS
from glpn_deploy.runtimes.onnx_file.plain import NotPlainError, check_plain
from glpn_deploy.runtimes.registry import load_runtime


def model(*nodes, initializers=(), opset=17, **changes):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "h", "w"])
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **changes)
    return made.SerializeToString()


def node(op, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def whole(name, values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def real(name, values):
    return numpy_helper.from_array(np.array(values, np.float32), name)


def refused(content):
    with pytest.raises(NotPlainError) as caught:
        check_plain(content)
    return str(caught.value)


def test_our_own_exports(tiny_bundle):
    for path in tiny_bundle.glob("*.onnx"):
        assert check_file(path) == []


@pytest.fixture(scope="module")
def glpn_of_transformers():
    """transformers' own network, as another exporter meets it: (N, 3, H, W) to (N, H, W)."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 10, 8],
        num_attention_heads=[1, 2, 5, 2],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=6,
    )

    class Depth(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = transformers.GLPNForDepthEstimation(config)

        def forward(self, pixel_values):
            return self.network(pixel_values, return_dict=True).predicted_depth

    return Depth().eval()


@pytest.mark.parametrize(
    "how",
    [
        {"dynamo": False, "opset_version": 11},
        {
            "dynamo": False,
            "opset_version": 17,
            "do_constant_folding": False,
            "dynamic_axes": {"x": [0, 2, 3]},
        },
        pytest.param({"dynamo": True, "optimize": False, "external_data": False, "verbose": False}),
    ],
    ids=["torchscript-11", "torchscript-17", "dynamo"],
)
def test_other_exporters_are_welcome(how, glpn_of_transformers, tmp_path):
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, 64, 64)
        torch.onnx.export(glpn_of_transformers, (example,), path, input_names=["x"], **how)
    check_file(path)


@pytest.mark.parametrize("form", ["dynamic", "QDQ", "QOperator", "16 bit"])
def test_what_onnxruntimes_quantization_writes_is_welcome(form, tiny_onnx, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime.quantization")
    from onnxruntime import quantization

    path = tmp_path / "q.onnx"
    if form == "dynamic":
        quantization.quantize_dynamic(tiny_onnx, path)
    else:

        class Images(quantization.CalibrationDataReader):
            left = 1

            def get_next(self):
                self.left -= 1
                pixels = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
                return {onnx.load(tiny_onnx).graph.input[0].name: pixels} if self.left >= 0 else None

        wide = quantization.QuantType.QUInt16
        quantization.quantize_static(
            tiny_onnx,
            path,
            Images(),
            quant_format=quantization.QuantFormat["QOperator" if form == "QOperator" else "QDQ"],
            **(
                {"activation_type": wide, "extra_options": {"UseQDQContribOps": True}}
                if form[0] == "1"
                else {}
            ),
        )
    check_file(path)


def test_what_onnxruntimes_optimiser_writes_is_welcome(tiny_onnx, tmp_path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    ort.InferenceSession(tiny_onnx, options, providers=["CPUExecutionProvider"])
    check_file(tmp_path / "o.onnx")


def test_the_arities_are_those_of_every_opset_that_is_taken():
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]
    for name, (low, high) in OPERATORS["ai.onnx"].items():
        versions = sorted((s for s in schemas if s.name == name), key=lambda s: s.since_version)
        if name == "SimplifiedLayerNormalization":  # ONNX Runtime's own, in ONNX's domain
            continue
        first = max(s.since_version for s in versions if s.since_version <= 7 or s is versions[0])
        taken = [s for s in versions if s.since_version >= first]
        assert low == min(s.min_input for s in taken), name
        assert high == max(min(s.max_input, 4096) for s in taken), name


def test_no_operator_takes_or_holds_a_graph():
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.name in OPERATORS[""]:
            kinds = {str(attribute.type).rpartition(".")[2] for attribute in schema.attributes.values()}
            assert not kinds & {"GRAPH", "GRAPHS"}, schema.name


def test_the_fewest_inputs_of_microsofts_operators_are_its_own():
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    theirs = {s.name: s for s in state.get_all_operator_schema() if s.domain == "com.microsoft"}
    for name, (low, high) in OPERATORS["com.microsoft"].items():
        if name in theirs:  # QLinearConv and others are known to some builds only
            assert low == theirs[name].min_input, name
            assert high >= min(theirs[name].max_input, 4096), name


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_convolution_without_weights_is_refused_by_name(backend, tmp_path):
    """It ends the process in OpenVINO 2026.4 with signal 11."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model(node("Conv", ["x"], name="first")))
    with pytest.raises(BundleError) as caught:
        load_runtime(backend, path, RuntimeOptions(device="cpu"))
    assert "Conv ('first') with 1 inputs" in caught.value.got


def test_control_flow_functions_and_strange_domains():
    branch = helper.make_graph([node("Identity")], "b", [], [])
    assert "Loop" in refused(model(node("Loop", ["n", "", "x"], body=branch)))
    assert "If" in refused(model(node("If", then_branch=branch, else_branch=branch)))
    assert "graph" in refused(model(node("Relu", body=branch)))
    assert "EPContext" in refused(model(node("EPContext", domain="com.microsoft")))
    assert "mine.Relu" in refused(model(node("Relu", domain="mine")))
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Twice", ["x"], ["y"], [node("Add", ["x", "x"])], opsets)
    assert "functions" in refused(model(node("Relu"), functions=[function]))


@pytest.mark.parametrize("opset", [2**31, 65, 6, 0, -1])
def test_absurd_opsets(opset):
    assert "opset" in refused(model(node("Relu"), opset=opset))


@pytest.mark.parametrize(
    ("op", "initializers"),
    [
        ("ConstantOfShape", [whole("s", [3_000_000_000])]),
        ("ConstantOfShape", [whole("s", [60_000, 60_000])]),
        ("Expand", [whole("s", [1, 3, 100_000, 100_000])]),
        ("Tile", [whole("s", [1, 1, 1000, 1000])]),
        ("Resize", [real("roi", []), real("s", [1, 1, 1e6, 1e6])]),
        ("Resize", [real("roi", []), real("s", [1, 1, np.inf, 1])]),
        ("Pad", [whole("s", [0, 0, 0, 0, 0, 0, 0, 10**9])]),
        ("Range", [real("a", 0), real("b", 1), real("s", 1e-12)]),
    ],
)
def test_sizes_that_stand_in_the_file(op, initializers):
    names = [tensor.name for tensor in initializers]
    inputs = names if op in ("ConstantOfShape", "Range") else ["x", *names]
    assert op in refused(model(node(op, inputs), initializers=initializers))
    constants = [node("Constant", [], [tensor.name], value=tensor) for tensor in initializers]
    assert op in refused(model(*constants, node(op, inputs)))


def test_sizes_within_reason():
    scales = [real("roi", []), real("s", [1, 1, 2, 2])]
    check_plain(model(node("Resize", ["x", "roi", "s"]), initializers=scales))
    check_plain(model(node("Resize", ["x", "", "s"]), initializers=scales))
    check_plain(model(node("Expand", ["x", "s"]), initializers=[whole("s", [4, 3, 480, 640])]))
    check_plain(
        model(node("Slice", ["x", "a", "b"]), initializers=[whole("a", [0]), whole("b", [2**63 - 1])])
    )


@pytest.mark.parametrize(
    "attributes", [{"strides": [0, 0]}, {"pads": [0, 0, 0, 10**9]}, {"group": 0}, {"dilations": [10**6, 1]}]
)
def test_geometry_beyond_reason(attributes):
    weights = real("w", np.ones((1, 3, 1, 1)))
    assert "Conv" in refused(model(node("Conv", ["x", "w"], **attributes), initializers=[weights]))


def test_a_tensor_that_holds_less_than_it_says():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 12])
    tensor.raw_data = b"\0" * 64
    assert "4294967296 values" in refused(model(node("Add", ["x", "w"]), initializers=[tensor]))


def test_names_with_control_characters():
    assert "control characters" in refused(model(node("Relu", name="a\x1b[2J")))


def test_a_flood_of_fields():
    """Two bytes a field: the reader would take minutes over a large file of them."""
    assert "fields" in refused(b"\x08\x01" * 3_100_000)


def test_the_field_numbers_are_onnxs():
    def number(message, name):
        return message.DESCRIPTOR.fields_by_name[name].number

    expected = {
        (onnx.ModelProto, "graph"): 7,
        (onnx.ModelProto, "opset_import"): 8,
        (onnx.ModelProto, "training_info"): 20,
        (onnx.ModelProto, "functions"): 25,
        (onnx.GraphProto, "node"): 1,
        (onnx.GraphProto, "initializer"): 5,
        (onnx.GraphProto, "sparse_initializer"): 15,
        (onnx.NodeProto, "input"): 1,
        (onnx.NodeProto, "output"): 2,
        (onnx.NodeProto, "name"): 3,
        (onnx.NodeProto, "op_type"): 4,
        (onnx.NodeProto, "attribute"): 5,
        (onnx.NodeProto, "domain"): 7,
        (onnx.AttributeProto, "i"): 3,
        (onnx.AttributeProto, "ints"): 8,
        (onnx.AttributeProto, "f"): 2,
        (onnx.AttributeProto, "floats"): 7,
        (onnx.AttributeProto, "t"): 5,
        (onnx.AttributeProto, "g"): 6,
        (onnx.AttributeProto, "tensors"): 10,
        (onnx.AttributeProto, "graphs"): 11,
        (onnx.AttributeProto, "ref_attr_name"): 21,
        (onnx.AttributeProto, "sparse_tensor"): 22,
        (onnx.AttributeProto, "sparse_tensors"): 23,
        (TensorProto, "dims"): 1,
        (TensorProto, "data_type"): 2,
        (TensorProto, "float_data"): 4,
        (TensorProto, "int32_data"): 5,
        (TensorProto, "int64_data"): 7,
        (TensorProto, "name"): 8,
        (TensorProto, "raw_data"): 9,
        (TensorProto, "double_data"): 10,
        (TensorProto, "uint64_data"): 11,
        (TensorProto, "external_data"): 13,
        (onnx.OperatorSetIdProto, "domain"): 1,
        (onnx.OperatorSetIdProto, "version"): 2,
    }
    assert {key: number(*key) for key in expected} == expected
