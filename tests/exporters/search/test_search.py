"""The search's logic on graphs that are only written down, and its rescue of a network made to overflow."""

from __future__ import annotations

import functools
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.options import OnnxOptions, fallback_precision
from glpn_deploy.exporters.search.network import Network
from glpn_deploy.exporters.search.overflow import overflowing_nodes
from glpn_deploy.exporters.search.recipes import Recipe, make_recipe
from glpn_deploy.exporters.search.search import SearchReport, search
from glpn_deploy.exporters.search.sensitivity import Sensitivity
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.images import FP32Depth, ImageErrors
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()
IMAGE = np.zeros((32, 32, 3), np.uint8)
FINE, POOR = (ErrorStats(0.1, 0.05, 0.01, abs_rel, 1.0, 0) for abs_rel in (0.0005, 0.5))
BROKEN = ErrorStats(math.inf, math.inf, math.inf, math.inf, 0.9, 7)


def write_kept(
    nodes_to_exclude: frozenset[str], path: Path, fp32_nodes: frozenset[str] = frozenset()
) -> Path:
    """Writes a graph that is the list of what it keeps, in FP32 or otherwise."""
    path.write_text("\n".join(sorted(nodes_to_exclude | fp32_nodes)))
    return path


def kept_in(path: Path) -> frozenset[str]:
    return frozenset(path.read_text().split("\n")) - {""}


class FakeNetwork(Network):
    """Says what it is told where the network would have to be run."""

    def __init__(self, source: Path, work: Path) -> None:
        super().__init__(source, [IMAGE], PROCESSOR, work)
        self.model = load_graph(source)
        self.peaks: dict[str, float] = {}
        self.beyond: list[str] = []
        self.calls: list[str] = []

    def unrepresentable(self, precision):
        return frozenset(self.beyond)

    def overflowing(self):
        self.calls.append("peaks")
        return overflowing_nodes(self.model, self.peaks)

    def ranked(self, write, excluded):
        """The last group in the graph is the most sensitive."""
        self.calls.append("ranked")
        low = {
            name: tuple(node for node in nodes if node not in excluded) for name, nodes in self.groups.items()
        }
        return [Sensitivity(name, nodes, POOR) for name, nodes in reversed(low.items()) if nodes]

    def of_kind(self, *kinds: str) -> set[str]:
        return {node.name for node in self.model.graph.node if node.op_type in kinds}


class FakeErrors:
    """A check: ``errors`` says what a kept set gives."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.errors = lambda kept: POOR

    def __call__(self, graph, title):
        errors = self.errors(kept_in(graph))
        return ImageErrors(errors, self.budget.allows(errors))


class Fake:
    """A check that passes graphs which keep certain nodes, and remembers what it was asked."""

    def __init__(self, wanted: set[str]) -> None:
        self.wanted, self.asked = wanted, []

    def __call__(self, graph, title):
        self.asked.append(kept_in(graph))
        passed = self.wanted <= kept_in(graph)
        return SimpleNamespace(passed=passed, to_dict=lambda: {"accuracy": {"passed": passed}})


@pytest.fixture
def network(tiny_onnx, tmp_path) -> FakeNetwork:
    (tmp_path / "work").mkdir()
    return FakeNetwork(tiny_onnx, tmp_path / "work")


@pytest.fixture
def run(network, tmp_path):
    """A search with what the tests do not vary; the output is in a folder of its own."""
    (tmp_path / "out").mkdir()

    def searched(precision="fp16", write=write_kept, budget=None, fallback=None, checks=()):
        budget = budget or Budget.of(precision)
        check = FakeErrors(budget)
        check.errors = handle.errors
        recipe = Recipe(precision, write, fallback or fallback_precision(precision))
        output = tmp_path / "out" / f"model.{precision}.onnx"
        found = search(network, recipe, [check, *checks], output)
        return SearchReport(
            precision=precision, budget=budget, candidates=found, images=1, images_from="two rooms"
        )

    handle: Any = searched
    handle.out, handle.errors = tmp_path / "out", lambda kept: POOR
    return handle


def overflow_in(network: FakeNetwork, node_name: str) -> None:
    node = next(node for node in network.model.graph.node if node.name == node_name)
    network.peaks = {node.output[0]: 1e6}


def test_fp16_takes_every_step_and_each_keeps_more(network, run):
    overflow_in(network, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    report = run()
    names = [candidate.name for candidate in report.candidates]
    total = len(network.groups) - 1  # the head is kept as a whole before the search
    eighth, quarter, half = (math.ceil(total / n) for n in (8, 4, 2))
    assert names == [
        "everything in fp16",
        "what comes near fp16's limit in fp32",
        "softmax, reductions and the head in fp32",
        f"the {eighth} most sensitive of {total} groups in fp32",
        f"the {quarter} most sensitive of {total} groups in fp32",
        f"the {half} most sensitive of {total} groups in fp32",
    ]
    kept = [set(candidate.nodes) for candidate in report.candidates]
    assert all(less < more for less, more in itertools.pairwise(kept))
    assert kept[0] == set()
    assert kept[1] == {
        "glpn.encoder.block.1.0.mlp.dense1/Conv",
        "glpn.encoder.block.1.0.mlp.dwconv.dwconv/Conv",
    }
    assert kept[2] == kept[1] | network.of_kind("Softmax", "LayerNormalization") | set(network.groups["head"])
    last_groups = [name for name in reversed(network.groups) if name != "head"][:eighth]
    assert kept[3] == kept[2].union(*(network.groups[name] for name in last_groups))
    assert report.candidates[1].groups == ("encoder.block.1.0.mlp",)
    assert network.calls == ["peaks", "ranked"]


def test_where_none_is_within_budget_nothing_is_left_and_the_report_says_fp32(network, run, tmp_path):
    report = run()
    assert report.chosen is None
    assert not list(run.out.iterdir())
    assert not list((tmp_path / "work").iterdir())


def test_the_first_step_within_budget_is_taken_and_nothing_is_looked_for_beyond_it(network, run):
    softmax = network.of_kind("Softmax")
    overflow_in(network, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    run.errors = lambda kept: FINE if softmax <= kept else POOR
    report = run()
    assert [candidate.passed for candidate in report.candidates] == [False, False, True]
    assert report.chosen is report.candidates[-1]
    assert [path.name for path in run.out.iterdir()] == ["model.fp16.onnx"]
    assert kept_in(run.out / "model.fp16.onnx") == set(report.chosen.nodes)
    assert network.calls == ["peaks"]


def test_the_first_graph_may_do_and_costs_no_look_at_ranges(network, run):
    run.errors = lambda kept: FINE
    report = run()
    assert [candidate.name for candidate in report.candidates] == ["everything in fp16"]
    assert network.calls == []


def test_a_step_that_keeps_what_another_kept_is_left_out(network, run):
    made = []

    def write(nodes_to_exclude, path, fp32_nodes):
        made.append(nodes_to_exclude | fp32_nodes)
        return write_kept(nodes_to_exclude, path, fp32_nodes)

    report = run(write=write)  # nothing comes near fp16's limit
    assert [candidate.name for candidate in report.candidates][
        1
    ] == "softmax, reductions and the head in fp32"
    assert len(made) == len(set(made)) == len(report.candidates) == 5


def test_bf16_has_no_step_for_overflow(network, run):
    report = run("bf16")
    assert [candidate.name for candidate in report.candidates][:2] == [
        "everything in bf16",
        "softmax, reductions and the head in fp32",
    ]
    assert network.calls == ["ranked"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantized_precisions_raise_the_first_convolution_and_the_head(network, run, precision):
    report = run(precision)
    assert [candidate.name for candidate in report.candidates][:2] == [
        f"everything in {precision}",
        "the first convolution and the head not quantized",
    ]
    assert set(report.candidates[0].nodes) == set()
    first = "glpn.encoder.patch_embeddings.0.proj/Conv"
    assert set(report.candidates[1].nodes) == {first, *network.groups["head"]}
    assert report.candidates[2].name.endswith("groups not quantized")
    assert network.calls == ["peaks", "ranked"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_what_fp16_cannot_hold_is_fp32_in_quantised_graphs_and_searched_all_the_same(network, run, precision):
    network.beyond = ["decoder.stages.0.convolution/Conv"]
    overflow_in(network, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    made, beyond = [], {"decoder.stages.0.convolution/Conv"}
    beyond_or_near = beyond | {
        "glpn.encoder.block.1.0.mlp.dense1/Conv",
        "glpn.encoder.block.1.0.mlp.dwconv.dwconv/Conv",
    }

    def write(nodes_to_exclude, path, fp32_nodes):
        made.append((set(nodes_to_exclude), set(fp32_nodes)))
        return write_kept(nodes_to_exclude, path, fp32_nodes)

    report = run(precision, write)
    assert [candidate.name for candidate in report.candidates][:2] == [
        f"everything in {precision}, with 1 nodes in fp32 that fp16 cannot hold",
        "what comes near fp16's limit in fp32",
    ]
    assert made[:2] == [(set(), beyond), (set(), beyond_or_near)]  # nothing is taken out of 8 bits
    assert all(full == beyond_or_near for _, full in made[1:])
    assert set(report.candidates[1].nodes) == beyond_or_near
    assert beyond <= made[-1][0]  # among the sensitive half of the groups: no longer quantised


def test_int8_for_cpus_has_no_fp16_to_overflow(network, run):
    network.beyond = ["head/Mul"]
    report = run("int8", fallback="fp32")
    assert report.candidates[0].name == "everything in int8"
    assert report.candidates[0].nodes == ()
    assert network.calls == ["ranked"]


def test_weights_that_the_type_cannot_hold_are_kept_from_the_start(network, run):
    network.beyond = ["head.head.2/Conv", "head/Mul"]
    run.errors = lambda kept: FINE
    report = run()
    assert report.chosen.name == "everything in fp16 but 2 nodes it cannot hold"
    assert set(report.chosen.nodes) == {"head.head.2/Conv", "head/Mul"}


def test_nan_is_over_budget_however_generous_it_is(network, run):
    run.errors = lambda kept: BROKEN if not kept else FINE
    report = run(budget=Budget(1e9, 1e9))
    assert [candidate.passed for candidate in report.candidates] == [False, True]
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["rungs"][0]["non_finite"] == 7
    assert values["rungs"][0]["abs_rel"] is None
    assert "7 pixels are NaN or infinite" in str(report.candidates[0])


def test_the_budget_in_metres_counts_too(network, run):
    run.errors = lambda kept: FINE  # its largest error is 0.1 m
    assert run(budget=Budget.of("fp16", max_abs_m=0.09)).chosen is None
    assert run(budget=Budget.of("fp16", max_abs_m=0.11)).chosen is not None


def test_checks_are_asked_in_order_up_to_the_first_that_fails(network, run):
    last = Fake(network.of_kind("Softmax"))
    overflow_in(network, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    run.errors = lambda kept: FINE if kept else POOR
    report = run(checks=[last])
    assert [candidate.passed for candidate in report.candidates] == [False, False, True]
    assert [len(candidate.results) for candidate in report.candidates] == [1, 2, 2]
    assert len(last.asked) == 2  # not of the first, which is over budget
    said = report.to_dict()["rungs"]
    assert (said[0]["accuracy"], said[1]["accuracy"]) == (None, {"passed": False})
    assert said[1]["abs_rel"] == 0.0005


def test_what_make_raises_passes(network, run):
    def write(nodes_to_exclude, path, fp32_nodes):
        path.write_bytes(b"half a graph")
        raise ExportError("the weights are beyond fp16's range")

    with refused(ExportError, got="beyond fp16's range"):
        run(write=write)
    assert not list(run.out.iterdir())


@pytest.mark.parametrize("before", [None, b"an older graph"])
def test_an_interruption_leaves_the_target_as_it_was(network, run, before):
    target = run.out / "model.fp16.onnx"
    if before is not None:
        target.write_bytes(before)

    def interrupted(kept):
        raise KeyboardInterrupt

    run.errors = interrupted
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [path.read_bytes() for path in run.out.iterdir()] == ([] if before is None else [before])


def test_weights_beside_the_graph_come_with_it(network, run):
    def write(nodes_to_exclude, path, fp32_nodes):
        path.with_name(f"{path.name}.data").write_bytes(b"x" * 2_000_000)
        return write_kept(nodes_to_exclude, path)

    run.errors = lambda kept: FINE
    report = run(write=write)
    assert sorted(path.name for path in run.out.iterdir()) == ["model.fp16.onnx", "model.fp16.onnx.data"]
    assert report.chosen.megabytes == pytest.approx(2.0, rel=0.01)


def test_the_report_says_what_was_tried_and_what_it_cost(network, run):
    run.errors = lambda kept: FINE if kept else POOR
    report = run()
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {name: values[name] for name in ("precision", "passed", "images", "images_from")} == {
        "precision": "fp16",
        "passed": True,
        "images": 1,
        "images_from": "two rooms",
    }
    assert values["budget"] == {"max_abs_rel": 0.001, "max_abs_m": None}
    tried = values["rungs"][1]
    assert tried["kept_nodes"] == len(report.chosen.nodes)
    assert (tried["abs_rel"], tried["max_abs_m"], tried["p99_abs_m"]) == (0.0005, 0.1, 0.05)
    assert tried["seconds"] >= 0
    assert "AbsRel 0.0005, at most 0.1 m; " in str(report.chosen)


# A network made to overflow -------------------------------------------------------------------------


def make_hostile(model: GLPNForDepthEstimation, factor: float) -> GLPNForDepthEstimation:
    """Multiplies activations inside a network by ``factor`` and divides by it again further on, in place.

    Between value and attention's output, key and query, the second norm of a block and its Mix-FFN, and
    the fusion's first two convolutions; a power of two leaves FP32's numbers as they are.
    """
    state = model.state_dict()

    def scale(by: float, prefix: str, names: tuple[str, ...] = ("weight", "bias")) -> None:
        for name in names:
            state[f"{prefix}.{name}"].mul_(by)

    for stage, depth in enumerate(model.config.depths):
        for index in range(depth):
            block = f"glpn.encoder.block.{stage}.{index}"
            scale(factor, f"{block}.attention.self.value")
            scale(1 / factor, f"{block}.attention.output.dense", ("weight",))
            scale(factor, f"{block}.attention.self.key")
            scale(1 / factor, f"{block}.attention.self.query")
            scale(factor, f"{block}.layer_norm_2")
            scale(1 / factor, f"{block}.mlp.dense1", ("weight",))
    for stage in range(1, model.config.num_encoder_blocks):
        fusion = f"decoder.stages.{stage}.fusion"
        scale(factor, f"{fusion}.convolutional_layer1.1")
        scale(1 / factor, f"{fusion}.convolutional_layer2.0", ("weight",))
    return model


def depth_of(path: Path, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": PROCESSOR.prepare(image)[None]})[0]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [3e4, 2.0**17])
def test_a_network_hostile_to_fp16_is_rescued(make_model, tiny_config: GLPNConfig, tmp_path, factor):
    """Activations beyond 65504; at 2^17 weights, too. This network's own reach about 4."""
    images = [render_room(seed, 64, 96).image for seed in range(2)]
    plain = to_onnx(make_model(tiny_config), tmp_path / "plain.onnx")
    with torch.no_grad():
        hostile_model = make_hostile(make_model(tiny_config), factor)
    hostile = to_onnx(hostile_model, tmp_path / "hostile.onnx")
    for image in images:
        np.testing.assert_allclose(depth_of(hostile, image), depth_of(plain, image), rtol=1e-4)

    recipe = make_recipe("fp16", hostile, ImageSet((), (), ""), PROCESSOR)
    (tmp_path / "work").mkdir()
    target = tmp_path / "model.fp16.onnx"
    check = functools.partial(FP32Depth(hostile, images, PROCESSOR).check, Budget.of("fp16"))
    found = search(Network(hostile, images, PROCESSOR, tmp_path / "work"), recipe, [check], target)
    assert [candidate.passed for candidate in found] == [False, True]
    assert found[0].result(ImageErrors).errors.non_finite
    plain_depth = FP32Depth(plain, images, PROCESSOR)  # the network before it was made hostile
    assert plain_depth.errors(target).abs_rel <= 0.001
    kinds = {tensor.data_type for tensor in onnx.load(str(target)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds  # rescued, not given up


@pytest.mark.slow
@pytest.mark.parametrize("factor", [3e4, 2.0**17])
@pytest.mark.parametrize(("precision", "opset"), [("int8", 17), ("int8", 20), ("fp8", 20)])
def test_quantized_graphs_of_a_network_hostile_to_fp16_are_rescued(
    make_model, tiny_config: GLPNConfig, tmp_path, precision, opset, factor
):
    """As good as in the same precision before it was made hostile, and with as much of it in 8 bits."""
    images = [render_room(seed, 64, 96).image for seed in range(20)]
    given = ImageSet(tuple(images[2:]), tuple(images[:2]), "rooms")
    plain = to_onnx(make_model(tiny_config), tmp_path / "plain.onnx", OnnxOptions(opset))
    with torch.no_grad():
        hostile_model = make_hostile(make_model(tiny_config), factor)
    hostile = to_onnx(hostile_model, tmp_path / "hostile.onnx", OnnxOptions(opset))
    recipe = make_recipe(precision, hostile, given, PROCESSOR)
    easy = make_recipe(precision, plain, given, PROCESSOR).write(frozenset(), tmp_path / "easy.onnx")
    (tmp_path / "work").mkdir()
    target = tmp_path / "rescued.onnx"
    check = functools.partial(FP32Depth(hostile, images[:2], PROCESSOR).check, Budget.of(precision))
    found = search(Network(hostile, images[:2], PROCESSOR, tmp_path / "work"), recipe, [check], target)
    assert [candidate.passed for candidate in found] == [False, True]
    plain_depth = FP32Depth(plain, images[:2], PROCESSOR)
    assert plain_depth.errors(target).abs_rel <= 2 * plain_depth.errors(easy).abs_rel
    rescued = onnx.load(str(target)).graph
    pairs = [sum(n.op_type == "QuantizeLinear" for n in onnx.load(str(p)).graph.node) for p in (easy, target)]
    assert pairs[1] >= pairs[0]
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in rescued.initializer}


@pytest.mark.slow
def test_without_the_search_the_hostile_network_overflows(make_model, tiny_config: GLPNConfig, tmp_path):
    image = render_room(0, 64, 96).image
    with torch.no_grad():
        model = make_hostile(make_model(tiny_config), 2.0**15)  # its weights fit FP16, its activations do not
    hostile = to_onnx(model, tmp_path / "hostile.onnx")
    half = to_half(hostile, tmp_path / "half.onnx")
    errors = FP32Depth(hostile, [image], PROCESSOR).errors(half)
    assert errors.non_finite
