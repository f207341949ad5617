"""What is read of an ONNX file without loading it, against onnx itself."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from glpn_deploy.errors import BundleError
from glpn_deploy.exporters.calibration.calibration import Ranges
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_fp8 import fp8_tensors, to_fp8
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from tests.refusals import refused


def test_our_own_export(tiny_onnx):
    header = read_header(tiny_onnx)
    assert (header.max_depth, header.precision, header.files) == (10, "fp32", (tiny_onnx,))
    spec = header.spec
    assert (spec.channels, spec.size_multiple, spec.batch, spec.height) == (3, 32, None, None)


def test_the_files_of_an_export_with_external_data(tiny_model, tmp_path):
    path = to_onnx(tiny_model, tmp_path / "m.onnx", OnnxOptions(single_file_limit=0))
    assert [file.name for file in read_header(path).files] == ["m.onnx", "m.onnx.data"]


def write(path, shape, metadata=None, weights_are_inputs=False, kind=TensorProto.FLOAT):
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", kind, None if shape is None else shape[:1] + shape[2:])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    inputs = [x, helper.make_tensor_value_info("axes", TensorProto.INT64, [1])] if weights_are_inputs else [x]
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, [y], [axes]), opset_imports=[helper.make_opsetid("", 18)]
    )
    helper.set_model_props(model, metadata or {})
    onnx.save_model(model, str(path))
    return path


@pytest.mark.parametrize("weights_are_inputs", [False, True])
def test_fixed_sizes_and_another_file(weights_are_inputs, tmp_path):
    header = read_header(write(tmp_path / "m.onnx", [2, 3, 480, "32*w"], None, weights_are_inputs))
    assert (header.max_depth, header.precision) == (None, "fp32")
    assert (header.spec.batch, header.spec.height, header.spec.width) == (2, 480, None)


@pytest.mark.parametrize(
    ("metadata", "precision"), [({"precision": "int8"}, "int8"), ({"precision": "half"}, "fp32")]
)
def test_precision(metadata, precision, tmp_path):
    assert read_header(write(tmp_path / "m.onnx", ["n", 3, "h", "w"], metadata)).precision == precision


def test_what_a_tool_made_of_our_file_is_seen_in_its_graph(tiny_onnx, tmp_path):
    """ONNX Runtime's own converters keep the metadata, which goes on saying fp32."""
    half, quantized = tmp_path / "half.onnx", tmp_path / "int8.onnx"
    onnx.save_model(convert_float_to_float16(onnx.load(tiny_onnx), keep_io_types=True), half)
    quantize_dynamic(tiny_onnx, quantized, weight_type=QuantType.QUInt8)
    for path, precision in ((half, "fp16"), (quantized, "int8"), (tiny_onnx, "fp32")):
        header = read_header(path)
        assert (header.precision, header.stated, header.max_depth) == (precision, "fp32", 10)
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save_model(model, tmp_path / "bare.onnx")
        header = read_header(tmp_path / "bare.onnx")
        assert (header.precision, header.stated, header.max_depth) == (precision, None, None)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_pairs_with_half_scales_are_tensorrts_whoever_says_so(precision, tiny_model, tmp_path):
    source = to_onnx(tiny_model, tmp_path / "model.onnx", OnnxOptions(20))
    tensors, convert = (int8_tensors, to_int8) if precision == "int8" else (fp8_tensors, to_fp8)
    ranges = Ranges(dict.fromkeys(tensors(source), (-4.0, 4.0)), "minmax", 2, "")
    path = convert(source, tmp_path / "low.onnx", ranges)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save_model(model, path)
    header = read_header(path)
    assert (header.precision, header.target) == (precision, "tensorrt")


def test_target_names_and_type(tmp_path):
    header = read_header(write(tmp_path / "m.onnx", ["n", 3, "h", "w"], {"target": "tensorrt"}))
    assert (header.target, header.input, header.output) == ("tensorrt", "x", "y")
    assert header.input_type == "float32"
    half = write(tmp_path / "half.onnx", ["n", 3, "h", "w"], kind=TensorProto.FLOAT16)
    assert (read_header(half).input_type, read_header(half).target) == ("float16", "")
    with refused(BundleError, expected="one float32 image batch in"):
        read_header(write(tmp_path / "double.onnx", ["n", 3, "h", "w"], kind=TensorProto.DOUBLE))


@pytest.mark.parametrize("value", ["deep", "nan", "-1", "0", "inf", ""])
def test_nonsense_scale(value, tmp_path):
    path = write(tmp_path / "m.onnx", ["n", 3, "h", "w"], {"max_depth": value})
    with refused(BundleError, expected="a number of metres above 0"):
        read_header(path)


@pytest.mark.parametrize("shape", [["n", "c", "h"], ["n", 3, "h", "w", "d"], None])
def test_another_network(shape, tmp_path):
    with refused(BundleError, expected="one float32 image batch in and one depth batch out"):
        read_header(write(tmp_path / "m.onnx", shape))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_taken_or_refused(data, tiny_onnx, tmp_path_factory):
    content = bytearray(tiny_onnx.read_bytes()[-3000:] if data.draw(st.booleans()) else b"")
    content += data.draw(st.binary(max_size=100))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "header.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError):  # the tail of a file, or noise, is no network
        read_header(path)


def test_the_field_numbers_are_onnx_s():
    def number(message, name):
        return message.DESCRIPTOR.fields_by_name[name].number

    value = onnx.TypeProto.Tensor
    assert (number(onnx.ModelProto, "graph"), number(onnx.ModelProto, "metadata_props")) == (7, 14)
    graph = [number(onnx.GraphProto, name) for name in ("initializer", "input", "output")]
    assert graph == [5, 11, 12]
    assert number(TensorProto, "name") == 8
    assert (TensorProto.FLOAT, TensorProto.FLOAT16) == (1, 10)
    assert (number(onnx.ValueInfoProto, "name"), number(onnx.ValueInfoProto, "type")) == (1, 2)
    assert (number(onnx.TypeProto, "tensor_type"), number(value, "elem_type"), number(value, "shape")) == (
        1,
        1,
        2,
    )
    dim = onnx.TensorShapeProto.Dimension
    assert number(onnx.TensorShapeProto, "dim") == 1
    assert (number(dim, "dim_value"), number(dim, "dim_param")) == (1, 2)
