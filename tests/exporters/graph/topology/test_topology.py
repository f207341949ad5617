"""Parts of a network found without its names: the names of the writer are the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.graph.topology.groups import groups, scope_of
from glpn_deploy.exporters.graph.topology.kinds import node_kinds
from glpn_deploy.exporters.graph.topology.topology import Topology
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx

OPTIONS = (OnnxOptions(17), OnnxOptions(20), OnnxOptions(20, form="tensorrt"))


@pytest.fixture(scope="module", params=OPTIONS, ids=["17", "20", "tensorrt"])
def written(request, tiny_model, tmp_path_factory) -> onnx.ModelProto:
    path: Path = tmp_path_factory.mktemp("written") / "model.onnx"
    return load_graph(to_onnx(tiny_model, path, request.param))


def nameless(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph under other names, which say nothing."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names: dict[str, str] = {"": ""}

    def other(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for index, node in enumerate(copy.graph.node):
        node.name = f"n{index}"
        node.input[:], node.output[:] = map(other, node.input), map(other, node.output)
    for value in (*copy.graph.initializer, *copy.graph.input, *copy.graph.output):
        value.name = other(value.name)
    return copy


def named(model: onnx.ModelProto, pattern: str) -> set[str]:
    """Names of the nodes whose module matches, but for those that read shapes."""
    nodes = (node for node in model.graph.node if node.op_type != "Shape")
    return {node.name for node in nodes if re.match(pattern, scope_of(node.name))}


def test_groups_are_the_modules(written, tiny_config):
    found = {name: set(nodes) & named(written, "") for name, nodes in groups(written).items()}
    for stage, depth in enumerate(tiny_config.depths):
        for block in range(depth):
            scope = rf"glpn\.encoder\.block\.{stage}\.{block}"
            for name, number in (("attention", 1), ("mlp", 2)):
                expected = named(written, rf"{scope}\.(layer_norm_{number}|{name})")
                assert found.pop(f"encoder.block.{stage}.{block}.{name}") == expected
        embed = named(written, rf"glpn\.encoder\.patch_embeddings\.{stage}")
        assert found.pop(f"encoder.patch_embeddings.{stage}.proj") == embed
        norm = named(written, rf"glpn\.encoder\.layer_norm\.{stage}")
        assert found.pop(f"encoder.layer_norm.{stage}") == norm
    assert found.pop("head") == named(written, "head")
    for stage in range(4):
        projection = found.pop(f"decoder.stages.{stage}.convolution")
        fusion = found.pop(f"decoder.stages.{stage}.fusion", set())
        more = r"|decoder\.(final_upsample|head)" if stage == 3 else ""
        assert projection | fusion == named(written, rf"decoder\.stages\.{stage}{more}")
    assert not found


def test_groups_hold_every_node_once_in_graph_order(written):
    place = {node.name: index for index, node in enumerate(written.graph.node)}
    found = groups(written)
    assert sorted(name for names in found.values() for name in names) == sorted(place)
    for names in found.values():
        assert names == sorted(names, key=place.__getitem__)
    first = [place[names[0]] for names in found.values()]
    assert first == sorted(first)


def test_names_do_not_matter(written):
    other = nameless(written)
    place = {f"n{index}": node.name for index, node in enumerate(written.graph.node)}
    assert [[place[n] for n in names] for names in groups(other).values()] == list(groups(written).values())
    assert {place[name]: kind for name, kind in node_kinds(other).items()} == node_kinds(written)


def test_kinds_are_the_modules(written):
    kinds = node_kinds(written)
    of = {kind: {name for name, k in kinds.items() if k == kind} for kind in kinds.values()}
    convolutions = {node.name for node in written.graph.node if node.op_type == "Conv"}
    assert of["first"] == named(written, r"glpn\.encoder\.patch_embeddings\.0\.proj")
    if "DepthToSpace" in {node.op_type for node in written.graph.node}:  # for CPUs, in one
        assert of["last"] == named(written, "head") & convolutions
        assert "head" not in of
    else:
        assert of["last"] == named(written, r"head\.head\.2") & convolutions
        assert of["head"] == named(written, r"head\.head\.0") & convolutions
    assert of["depthwise"] == {n for n in convolutions if "dwconv" in n}
    assert all("encoder.block" in name for name in of["attention"] | of["residual"])
    assert {scope_of(n) for n in of["linear"]} >= {"glpn.encoder.block.0.0.attention.self.query"}
    head = {written.graph.node[index].name for index in Topology(written).head()}
    assert head & named(written, "") == named(written, "head")


def graph(*nodes: tuple[str, str, str]) -> onnx.ModelProto:
    """A graph from image ``x`` to ``y``: operator, inputs, output; ``w`` is a stored weight."""
    made = [helper.make_node(op, reads.split(), [gives], name=gives) for op, reads, gives in nodes]
    tensor = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    return helper.make_model(helper.make_graph(made, "g", value[:1], value[1:], [tensor]))


def test_a_residual_block_in_the_head_is_a_group_and_its_convolutions_are_the_heads():
    model = graph(
        ("Conv", "x w", "stem"),
        ("Resize", "stem", "up"),
        ("Conv", "up w", "a"),
        ("Relu", "a", "b"),
        ("Conv", "b w", "c"),
        ("Add", "up c", "sum"),
        ("Conv", "sum w", "last"),
        ("Softplus", "last", "y"),
    )
    assert list(groups(model).values()) == [["stem", "up"], ["a", "b", "c", "sum"], ["last", "y"]]
    kinds = node_kinds(model)
    assert kinds == {"stem": "first", "a": "head", "c": "head", "sum": "residual", "last": "last"}


def test_depth_that_is_upsampled_last_and_a_network_that_is_not_at_all():
    model = graph(
        ("Conv", "x w", "stem"), ("Resize", "stem", "up"), ("Conv", "up w", "a"), ("Resize", "a", "y")
    )
    assert Topology(model).head() == {2, 3}
    model = graph(("Conv", "x w", "stem"), ("Relu", "stem", "b"), ("Conv", "b w", "a"), ("Exp", "a", "y"))
    assert Topology(model).head() == {2, 3}


def test_shapes_connect_nothing():
    """A size read from the image makes no product the first, and no sum a residual one."""
    model = graph(
        ("Shape", "x", "size"),
        ("Conv", "x w", "stem"),
        ("Relu", "stem", "a"),
        ("Conv", "a w", "b"),
        ("Reshape", "b size", "c"),
        ("Conv", "c w", "d"),
        ("Add", "c d", "y"),
    )
    assert Topology(model).first_products() == {1}
    assert Topology(model).last_products() == {3, 5}  # what is added is a product's result, too
    assert groups(model)["head"] == ["d", "y"]
