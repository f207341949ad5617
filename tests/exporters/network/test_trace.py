"""The traced graph against the written one, torch and what is promised of both."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from glpn_deploy.errors import ConfigError, ExportError
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.topology.groups import groups
from glpn_deploy.exporters.graph.topology.kinds import node_kinds
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import FP32Graphs, to_onnx
from glpn_deploy.model.outputs import DepthEstimatorOutput, depth_of
from glpn_deploy.runtimes.ort_session import open_session

SHAPES = ((1, 32, 32), (1, 64, 96), (3, 96, 32), (2, 160, 224))


@pytest.fixture(scope="module")
def traced(two_stages, tmp_path_factory):
    """The same network at three opsets, traced once."""
    folder, graphs = tmp_path_factory.mktemp("traced"), FP32Graphs(two_stages, "trace")
    return {opset: graphs.write(folder / f"{opset}.onnx", OnnxOptions(opset)) for opset in (17, 18, 22)}


@pytest.mark.parametrize("opset", [17, 18, 22])
def test_the_two_routes_agree(opset, traced, two_stages, pixels, tmp_path):
    """What keeps the two descriptions of the network one, at sizes that were not traced."""
    written = open_session(to_onnx(two_stages, tmp_path / "written.onnx", OnnxOptions(opset)))
    session = open_session(traced[opset])
    for batch, height, width in SHAPES:
        x = {"pixel_values": pixels(batch, height, width)}
        (depth,), (expected,) = session.run(None, x), written.run(None, x)
        with torch.inference_mode():
            reference = two_stages(torch.from_numpy(x["pixel_values"])).predicted_depth.numpy()
        assert depth.shape == (batch, height, width)
        assert reference.std() > 0.01
        np.testing.assert_allclose(depth, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(depth, reference, rtol=0, atol=1e-5)


def test_the_file_says_the_same_as_a_written_one(traced, two_stages, tmp_path):
    written = load_graph(to_onnx(two_stages, tmp_path / "written.onnx"))
    for opset, path in traced.items():
        model = load_graph(path)
        assert model.opset_import[0].version == opset
        for mine, theirs in (
            (model.graph.input, written.graph.input),
            (model.graph.output, written.graph.output),
        ):
            assert [value.name for value in mine] == [value.name for value in theirs]
            dims = [
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*mine, *theirs)
            ]
            assert dims[0] == dims[1]
        assert {e.key: e.value for e in model.metadata_props} == {
            e.key: e.value for e in written.metadata_props
        }
    assert model.ir_version > load_graph(traced[17]).ir_version == written.ir_version


def test_parts_are_found_in_both(traced, two_stages, tmp_path):
    """The same groups; the head is written at a quarter of the size, where it is one."""
    written = load_graph(to_onnx(two_stages, tmp_path / "written.onnx"))
    found = []
    for model in (load_graph(traced[17]), written):
        kinds = node_kinds(model)
        parts = groups(model)
        assert parts.keys() >= {"head", "encoder.block.1.0.attention", "encoder.block.1.0.mlp"}
        assert sum(kind == "attention" for kind in kinds.values()) == 4
        head = {kinds[node] for node in parts["head"] if node in kinds}
        assert head == ({"last"} if model is written else {"head", "last"})
        found.append(set(parts))
    assert found[0] == found[1]


def test_no_trace_of_the_machine_and_one_name_a_node(traced):
    for path in traced.values():
        model = onnx.load(path)
        assert not model.graph.value_info
        assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
        assert b"site-packages" not in path.read_bytes()
        assert {n.op_type for n in model.graph.node}.isdisjoint({"Dropout", "BatchNormalization"})


def test_any_module_with_the_networks_input_and_output(small, pixels, tmp_path):
    torch.manual_seed(0)
    network: Any = nn.Sequential(small(lambda depth: (depth[:, 0], "more")))
    network.config = network[0].config
    network.train()
    session = open_session(to_onnx(network, tmp_path / "model.onnx", route="trace"))
    assert all(module.training for module in network.modules())
    x = pixels(2, 64, 96)
    with torch.no_grad():
        expected = 10 * torch.sigmoid(network[0].conv(torch.from_numpy(x)))[:, 0].numpy()
    np.testing.assert_allclose(session.run(None, {"pixel_values": x})[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: (t, None), lambda t: DepthEstimatorOutput(predicted_depth=t)]
)
def test_where_the_depth_is_in_what_a_network_gives(wrap):
    depth = torch.ones(1)
    assert depth_of(wrap(depth)) is depth


def branching(depth: torch.Tensor) -> torch.Tensor:
    return depth[:, 0] if depth.mean() > 1 else depth[:, 0] * 2


def without_onnx(depth: torch.Tensor) -> torch.Tensor:
    return torch.linalg.eigvalsh(depth[:, 0, :32, :32]).sum() + depth[:, 0]


def failing(depth: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError("no depth today")


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (lambda depth: depth, "of shape (2, 1, 64, 96)"),
        (lambda depth: depth.mean((1, 2, 3)), "of shape (2,)"),
        (lambda depth: depth[:1, 0], "of shape (1, 64, 96)"),
        (lambda depth: depth[:, 0].double(), "gives float64"),
        (lambda depth: {"depth": depth}, "gives a NoneType"),
        (lambda depth: depth[:, 0, :16], "has the dimensions"),
        (failing, "ZeroDivisionError: no depth today"),
        (branching, "torch.export cannot follow the network"),
        (without_onnx, "torch.onnx.export has no ONNX for the network"),
    ],
)
def test_what_is_refused_is_named(gives, words, small, tmp_path):
    with pytest.raises(ExportError) as caught:
        to_onnx(small(gives), tmp_path / "model.onnx", route="trace")
    assert words in caught.value.got
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_types_and_no_configuration(small, tmp_path):
    with pytest.raises(ExportError) as caught:
        to_onnx(small().half(), tmp_path / "model.onnx", route="trace")
    assert "float16" in caught.value.got
    network = small()
    del network.config
    with pytest.raises(ConfigError) as missing:
        to_onnx(network, tmp_path / "model.onnx", route="trace")
    assert "GLPNConfig" in missing.value.fix
    network.config = SimpleNamespace()
    with pytest.raises(ConfigError):
        to_onnx(network, tmp_path / "model.onnx", route="trace")


def test_what_is_written_is_a_glpn_as_its_configuration_says(changed, small, two_stages, tmp_path):
    for network in (changed, small()):
        with pytest.raises(ExportError) as caught:
            to_onnx(network, tmp_path / "model.onnx")
        assert "--trace" in caught.value.fix
    other = copy.deepcopy(two_stages)
    other.head.head[1] = nn.Tanh()  # which has no tensors
    with pytest.raises(ExportError) as caught:
        to_onnx(other, tmp_path / "model.onnx")
    assert "head.head.1" in caught.value.got


def test_adapters_that_were_merged_are_written(two_stages, lora, pixels, tmp_path):
    network = copy.deepcopy(two_stages)
    attention = network.glpn.encoder.block[0][0].attention.self
    torch.manual_seed(0)
    attention.value = lora(attention.value)
    x = pixels(1, 64, 96)
    with torch.inference_mode():
        adapted = network(torch.from_numpy(x)).predicted_depth.numpy()
    with pytest.raises(ExportError):
        to_onnx(network, tmp_path / "model.onnx")
    attention.value = attention.value.merged()
    session = open_session(to_onnx(network, tmp_path / "model.onnx"))
    np.testing.assert_allclose(session.run(None, {"pixel_values": x})[0], adapted, rtol=0, atol=1e-5)
    with torch.inference_mode():
        plain = two_stages(torch.from_numpy(x)).predicted_depth.numpy()
    assert np.abs(adapted - plain).max() > 1e-3, "the comparison would mean nothing"
