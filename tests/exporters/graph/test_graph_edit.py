"""Names, groups, types, and the reading and writing of our graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.errors import ExportError, WriteError
from glpn_deploy.exporters.graph.graph_edit import (
    load_graph,
    opset_of,
    precision_of,
    save_graph,
    tensor_types,
)
from tests.refusals import refused


def test_a_graph_survives_reading_and_writing(tiny_onnx, tmp_path):
    written = save_graph(load_graph(tiny_onnx), tmp_path / "again.onnx")
    assert written.read_bytes() == tiny_onnx.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]


def test_large_weights_go_beside_the_file(tiny_onnx, tmp_path):
    path = save_graph(load_graph(tiny_onnx), tmp_path / "m.onnx", single_file_limit=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    again = {t.name: numpy_helper.to_array(t) for t in load_graph(path).graph.initializer}
    for tensor in load_graph(tiny_onnx).graph.initializer:
        np.testing.assert_array_equal(again[tensor.name], numpy_helper.to_array(tensor))


def test_an_invalid_graph_leaves_the_old_file(tiny_onnx, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    model = load_graph(tiny_onnx)
    model.graph.node[3].input[0] = "nothing"
    with refused(ExportError, got="not valid ONNX"):
        save_graph(model, path)
    assert path.read_bytes() == b"old"
    with refused(WriteError, got="there is no folder"):
        save_graph(load_graph(tiny_onnx), tmp_path / "nowhere" / "m.onnx")


def foreign() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="n")], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_what_cannot_be_read_says_so(tiny_onnx, tmp_path):
    with refused(ExportError, got="missing.onnx cannot be read", fix="glpn-export"):
        load_graph(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("this is no ONNX file")
    with refused(ExportError, got="not a readable ONNX file"):
        load_graph(tmp_path / "text.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(tiny_onnx.read_bytes()[:-1000])
    with pytest.raises(ExportError):
        load_graph(cut)
    onnx.save(foreign(), str(tmp_path / "foreign.onnx"))
    with refused(ExportError, got="does not come from glpn-export"):
        load_graph(tmp_path / "foreign.onnx")
    model = load_graph(tiny_onnx)
    model.graph.node[1].name = model.graph.node[0].name
    onnx.save(model, str(tmp_path / "twice.onnx"))
    with refused(ExportError, got="used twice, such as glpn"):
        load_graph(tmp_path / "twice.onnx")


def test_types_are_those_of_onnx_inference_on_the_whole_model(tiny_onnx):
    model = load_graph(tiny_onnx)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    expected = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    types = tensor_types(model)
    computed = {name for node in model.graph.node for name in node.output}
    assert {name: types[name] for name in computed} == expected
    assert not model.graph.value_info
    assert types["pixel_values"] == TensorProto.FLOAT
    assert types["glpn.encoder.patch_embeddings.0/Shape"] == TensorProto.INT64


def test_opset_and_precision(tiny_onnx):
    model = load_graph(tiny_onnx)
    assert opset_of(model) == 17
    assert precision_of(model) == "fp32"
    helper.set_model_props(model, {"precision": "bf16"})
    assert precision_of(model) == "bf16"
    unnamed = foreign()
    assert precision_of(unnamed) == "fp32"
    unnamed.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT16, [1], [1.0]))
    assert precision_of(unnamed) == "fp16"
    unnamed.graph.node[0].op_type = "QuantizeLinear"
    assert precision_of(unnamed) == "int8"
    unnamed.graph.initializer.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [1], [0.0]))
    assert precision_of(unnamed) == "fp8"
