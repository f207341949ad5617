"""The ladder's logic on graphs that are only written down, and its rescue of a network made to overflow."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.calibration.image_sets import ImageSet
from glpn_deploy.exporters.graph.graph_edit import groups, load_graph
from glpn_deploy.exporters.search import search as module
from glpn_deploy.exporters.search.recipes import maker
from glpn_deploy.exporters.search.search import climb
from glpn_deploy.exporters.search.sensitivity import SearchOptions, Sensitivity
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.exporters.to_onnx import OnnxOptions, to_onnx
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.images import Judge

PROCESSOR = GLPNImageProcessor()
IMAGE = np.zeros((32, 32, 3), np.uint8)
FINE, POOR = (ErrorStats(0.1, 0.05, 0.01, abs_rel, 1.0, 0) for abs_rel in (0.0005, 0.5))
BROKEN = ErrorStats(*[math.inf] * 4, 0.9, 7)


def write_kept(keep: frozenset[str], path: Path, full: frozenset[str] = frozenset()) -> Path:
    """A make() whose graph is the list of what it keeps, in FP32 or otherwise."""
    path.write_text("\n".join(sorted(keep | full)))
    return path


def kept_in(path: Path) -> frozenset[str]:
    return frozenset(path.read_text().split("\n")) - {""}


class Fakes:
    """Stands in for everything that runs a network; ``errors`` says what a kept set gives."""

    def __init__(self, source: Path) -> None:
        self.model = load_graph(source)
        self.groups = groups(self.model)
        self.errors = lambda kept: POOR
        self.peaks: dict[str, float] = {}
        self.unrepresentable: list[str] = []
        self.calls: list[str] = []

    def judge(self, *_, **__):
        def errors(candidate, *_):
            return self.errors(kept_in(candidate))

        return SimpleNamespace(errors=errors)

    def find_peaks(self, *_, **__):
        self.calls.append("peaks")
        return self.peaks

    def search(self, source, make, parts, *_, kept, **__):
        """The last group in the graph is the most sensitive."""
        self.calls.append("search")
        low = {name: tuple(node for node in nodes if node not in kept) for name, nodes in parts.items()}
        return [Sensitivity(name, nodes, POOR) for name, nodes in reversed(low.items()) if nodes]

    def of_kind(self, *kinds: str) -> set[str]:
        return {node.name for node in self.model.graph.node if node.op_type in kinds}


@pytest.fixture
def fakes(tiny_onnx, monkeypatch) -> Fakes:
    made = Fakes(tiny_onnx)
    monkeypatch.setattr(module, "Judge", made.judge)
    monkeypatch.setattr(module, "find_peaks", made.find_peaks)
    monkeypatch.setattr(module, "search", made.search)
    monkeypatch.setattr(module, "unrepresentable", lambda source, precision: made.unrepresentable)
    return made


@pytest.fixture
def run(tiny_onnx, tmp_path):
    """climb() with what the tests do not vary; the target is in a folder of its own."""
    (tmp_path / "work").mkdir()
    (tmp_path / "out").mkdir()

    def climbed(precision="fp16", make=write_kept, budget=None, **kwargs):
        target = tmp_path / "out" / f"model.{precision}.onnx"
        budget = budget or Budget.of(precision)
        work = tmp_path / "work"
        return climb(tiny_onnx, target, precision, make, [IMAGE], PROCESSOR, budget, work, **kwargs)

    climbed.out = tmp_path / "out"
    return climbed


def overflow_in(fakes: Fakes, node_name: str) -> None:
    node = next(node for node in fakes.model.graph.node if node.name == node_name)
    fakes.peaks = {node.output[0]: 1e6}


def test_fp16_climbs_every_rung_and_each_keeps_more(fakes, run):
    overflow_in(fakes, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    report = run(images_from="two rooms")
    names = [rung.name for rung in report.rungs]
    total = len(fakes.groups) - 1  # the head is kept as a whole before the search
    eighth, quarter, half = (math.ceil(total / n) for n in (8, 4, 2))
    assert names == [
        "everything in fp16",
        "what comes near fp16's limit in fp32",
        "softmax, reductions and the head in fp32",
        f"the {eighth} most sensitive of {total} groups in fp32",
        f"the {quarter} most sensitive of {total} groups in fp32",
        f"the {half} most sensitive of {total} groups in fp32",
    ]
    kept = [set(rung.kept) for rung in report.rungs]
    assert all(less < more for less, more in itertools.pairwise(kept))
    assert kept[0] == set()
    assert kept[1] == {
        "glpn.encoder.block.1.0.mlp.dense1/Conv",
        "glpn.encoder.block.1.0.mlp.dwconv.dwconv/Conv",
    }
    assert kept[2] == kept[1] | fakes.of_kind("Softmax", "LayerNormalization") | set(fakes.groups["head"])
    last_groups = [name for name in reversed(fakes.groups) if name != "head"][:eighth]
    assert kept[3] == kept[2].union(*(fakes.groups[name] for name in last_groups))
    assert report.rungs[1].kept_groups == ("encoder.block.1.0.mlp",)
    assert fakes.calls == ["peaks", "search"]


def test_where_none_is_within_budget_nothing_is_left_and_the_report_says_fp32(fakes, run, tmp_path):
    report = run()
    assert not report.passed
    assert report.chosen is None
    assert not list(run.out.iterdir())
    assert not list((tmp_path / "work").iterdir())
    assert "only fp32 meets the budget (AbsRel at most 0.001)" in str(report)


def test_the_first_rung_within_budget_is_taken_and_nothing_is_looked_for_beyond_it(fakes, run):
    softmax = fakes.of_kind("Softmax")
    overflow_in(fakes, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    fakes.errors = lambda kept: FINE if softmax <= kept else POOR
    report = run()
    assert [rung.passed for rung in report.rungs] == [False, False, True]
    assert report.chosen is report.rungs[-1]
    assert [path.name for path in run.out.iterdir()] == ["model.fp16.onnx"]
    assert kept_in(run.out / "model.fp16.onnx") == set(report.chosen.kept)
    assert fakes.calls == ["peaks"]


def test_the_first_graph_may_do_and_costs_no_look_at_ranges(fakes, run):
    fakes.errors = lambda kept: FINE
    report = run()
    assert [rung.name for rung in report.rungs] == ["everything in fp16"]
    assert fakes.calls == []


def test_a_rung_that_keeps_what_another_kept_is_left_out(fakes, run):
    made = []

    def make(keep, path, full):
        made.append(keep | full)
        return write_kept(keep, path, full)

    report = run(make=make)  # nothing comes near fp16's limit
    assert [rung.name for rung in report.rungs][1] == "softmax, reductions and the head in fp32"
    assert len(made) == len(set(made)) == len(report.rungs) == 5


def test_bf16_has_no_rung_for_overflow(fakes, run):
    report = run("bf16")
    assert [rung.name for rung in report.rungs][:2] == [
        "everything in bf16",
        "softmax, reductions and the head in fp32",
    ]
    assert fakes.calls == ["search"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantised_precisions_raise_the_first_convolution_and_the_head(fakes, run, precision):
    report = run(precision)
    assert [rung.name for rung in report.rungs][:2] == [
        f"everything in {precision}",
        "the first convolution and the head not quantised",
    ]
    assert set(report.rungs[0].kept) == set()
    first = "glpn.encoder.patch_embeddings.0.proj/Conv"
    assert set(report.rungs[1].kept) == {first, *fakes.groups["head"]}
    assert report.rungs[2].name.endswith("groups not quantised")
    assert fakes.calls == ["peaks", "search"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_what_fp16_cannot_hold_is_fp32_in_quantised_graphs_and_searched_all_the_same(fakes, run, precision):
    fakes.unrepresentable = ["decoder.stages.0.convolution/Conv"]
    overflow_in(fakes, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    made, beyond = [], {"decoder.stages.0.convolution/Conv"}
    beyond_or_near = beyond | {
        "glpn.encoder.block.1.0.mlp.dense1/Conv",
        "glpn.encoder.block.1.0.mlp.dwconv.dwconv/Conv",
    }

    def make(keep, path, full):
        made.append((set(keep), set(full)))
        return write_kept(keep, path, full)

    report = run(precision, make)
    assert [rung.name for rung in report.rungs][:2] == [
        f"everything in {precision}, with 1 nodes in fp32 that fp16 cannot hold",
        "what comes near fp16's limit in fp32",
    ]
    assert made[:2] == [(set(), beyond), (set(), beyond_or_near)]  # nothing is taken out of 8 bits
    assert all(full == beyond_or_near for _, full in made[1:])
    assert set(report.rungs[1].kept) == beyond_or_near
    assert beyond <= made[-1][0]  # among the sensitive half of the groups: no longer quantised


def test_int8_for_cpus_has_no_fp16_to_overflow(fakes, run):
    fakes.unrepresentable = ["head/Mul"]
    report = run("int8", int8_for="cpu")
    assert report.rungs[0].name == "everything in int8"
    assert report.rungs[0].kept == ()
    assert fakes.calls == ["search"]


def test_weights_that_the_type_cannot_hold_are_kept_from_the_start(fakes, run):
    fakes.unrepresentable = ["head.head.2/Conv"]
    fakes.errors = lambda kept: FINE
    report = run(always=frozenset({"head/Mul"}))
    assert report.chosen.name == "everything in fp16 but 2 nodes it cannot hold"
    assert set(report.chosen.kept) == {"head.head.2/Conv", "head/Mul"}


def test_nan_is_over_budget_however_generous_it_is(fakes, run):
    fakes.errors = lambda kept: BROKEN if not kept else FINE
    report = run(budget=Budget(1e9, 1e9))
    assert [rung.passed for rung in report.rungs] == [False, True]
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["rungs"][0]["non_finite"] == 7
    assert values["rungs"][0]["abs_rel"] is None
    assert "7 pixels are NaN or infinite" in str(report.rungs[0])


def test_the_budget_in_metres_counts_too(fakes, run):
    fakes.errors = lambda kept: FINE  # its largest error is 0.1 m
    assert not run(budget=Budget.of("fp16", max_abs_m=0.09)).passed
    assert run(budget=Budget.of("fp16", max_abs_m=0.11)).passed


def test_ground_truth_is_asked_of_graphs_within_budget_and_can_refuse_them(fakes, run):
    softmax, asked = fakes.of_kind("Softmax"), []

    class Truth:
        def accuracy(self, candidate, precision, work, title):
            asked.append(kept_in(candidate))
            enough = softmax <= kept_in(candidate)
            return SimpleNamespace(passed=enough, to_dict=lambda: {"passed": enough})

    overflow_in(fakes, "glpn.encoder.block.1.0.mlp.dense1/Conv")
    fakes.errors = lambda kept: FINE if kept else POOR
    report = run(truth=Truth())
    assert [rung.passed for rung in report.rungs] == [False, False, True]
    assert len(asked) == 2  # not of the first, which is over budget
    assert report.rungs[0].accuracy is None
    assert report.to_dict()["rungs"][1]["accuracy"] == {"passed": False}


def test_what_make_raises_passes(fakes, run):
    def make(keep, path, full):
        path.write_bytes(b"half a graph")
        raise ExportError("the weights are beyond fp16's range")

    with pytest.raises(ExportError, match="beyond fp16's range"):
        run(make=make)
    assert not list(run.out.iterdir())


@pytest.mark.parametrize("before", [None, b"an older graph"])
def test_an_interruption_leaves_the_target_as_it_was(fakes, run, before):
    target = run.out / "model.fp16.onnx"
    if before is not None:
        target.write_bytes(before)

    def interrupted(kept):
        raise KeyboardInterrupt

    fakes.errors = interrupted
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [path.read_bytes() for path in run.out.iterdir()] == ([] if before is None else [before])


def test_weights_beside_the_graph_come_with_it(fakes, run):
    def make(keep, path, full):
        path.with_name(f"{path.name}.data").write_bytes(b"x" * 2_000_000)
        return write_kept(keep, path)

    fakes.errors = lambda kept: FINE
    report = run(make=make)
    assert sorted(path.name for path in run.out.iterdir()) == ["model.fp16.onnx", "model.fp16.onnx.data"]
    assert report.chosen.megabytes == pytest.approx(2.0, rel=0.01)


def test_the_report_says_what_was_tried_and_what_it_cost(fakes, run):
    fakes.errors = lambda kept: FINE if kept else POOR
    report = run(images_from="two rooms")
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {name: values[name] for name in ("precision", "passed", "images", "images_from")} == {
        "precision": "fp16",
        "passed": True,
        "images": 1,
        "images_from": "two rooms",
    }
    assert values["budget"] == {"max_abs_rel": 0.001, "max_abs_m": None}
    rung = values["rungs"][1]
    assert rung["kept_nodes"] == len(report.chosen.kept)
    assert (rung["abs_rel"], rung["max_abs_m"], rung["p99_abs_m"]) == (0.0005, 0.1, 0.05)
    assert rung["seconds"] >= 0
    assert "AbsRel 0.0005, max 0.1 m, p99 0.05 m" in str(report)
    assert str(report).endswith("within budget")


def test_an_unknown_precision_and_no_images_are_refused(tiny_onnx, tmp_path, run):
    with pytest.raises(InputError, match="fp16, bf16, int8, fp8"):
        run("fp32", budget=Budget(0.1))
    with pytest.raises(InputError, match="no images to judge by"):
        climb(tiny_onnx, tmp_path / "t.onnx", "fp16", write_kept, [], PROCESSOR, Budget(0.1), tmp_path)


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

    make, _ = maker("fp16", hostile, ImageSet((), (), ""), PROCESSOR)
    (tmp_path / "work").mkdir()
    target, budget = tmp_path / "model.fp16.onnx", Budget.of("fp16")
    options = SearchOptions(threads=1)
    report = climb(
        hostile, target, "fp16", make, images, PROCESSOR, budget, tmp_path / "work", options=options
    )
    assert [rung.passed for rung in report.rungs] == [False, True]
    assert report.rungs[0].errors.non_finite
    judge = Judge(plain, images, PROCESSOR, threads=1)  # the network before it was made hostile
    assert judge.errors(target, tmp_path).abs_rel <= 0.001
    kinds = {tensor.data_type for tensor in onnx.load(str(target)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds  # rescued, not given up


@pytest.mark.slow
@pytest.mark.parametrize("factor", [3e4, 2.0**17])
@pytest.mark.parametrize(("precision", "opset"), [("int8", 17), ("int8", 20), ("fp8", 20)])
def test_quantised_graphs_of_a_network_hostile_to_fp16_are_rescued(
    make_model, tiny_config: GLPNConfig, tmp_path, precision, opset, factor
):
    """As good as in the same precision before it was made hostile, and with as much of it in 8 bits."""
    images = [render_room(seed, 64, 96).image for seed in range(20)]
    given = ImageSet(tuple(images[2:]), tuple(images[:2]), "rooms")
    plain = to_onnx(make_model(tiny_config), tmp_path / "plain.onnx", OnnxOptions(opset))
    with torch.no_grad():
        hostile_model = make_hostile(make_model(tiny_config), factor)
    hostile = to_onnx(hostile_model, tmp_path / "hostile.onnx", OnnxOptions(opset))
    friendly, _ = maker(precision, plain, given, PROCESSOR)
    make, _ = maker(precision, hostile, given, PROCESSOR)
    easy = friendly(frozenset(), tmp_path / "easy.onnx")
    (tmp_path / "work").mkdir()
    target, budget = tmp_path / "rescued.onnx", Budget.of(precision)
    options = SearchOptions(threads=1)
    report = climb(
        hostile,
        target,
        precision,
        make,
        images[:2],
        PROCESSOR,
        budget,
        tmp_path / "work",
        options=options,
    )
    assert [rung.passed for rung in report.rungs] == [False, True]
    judge = Judge(plain, images[:2], PROCESSOR, threads=1)
    assert judge.errors(target, tmp_path).abs_rel <= 2 * judge.errors(easy, tmp_path).abs_rel
    rescued = onnx.load(str(target)).graph
    pairs = [sum(n.op_type == "QuantizeLinear" for n in onnx.load(str(p)).graph.node) for p in (easy, target)]
    assert pairs[1] >= pairs[0]
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in rescued.initializer}


@pytest.mark.slow
def test_without_the_ladder_the_hostile_network_overflows(make_model, tiny_config: GLPNConfig, tmp_path):
    image = render_room(0, 64, 96).image
    with torch.no_grad():
        model = make_hostile(make_model(tiny_config), 2.0**15)  # its weights fit FP16, its activations do not
    hostile = to_onnx(model, tmp_path / "hostile.onnx")
    half = to_half(hostile, tmp_path / "half.onnx")
    errors = Judge(hostile, [image], PROCESSOR, threads=1).errors(half, tmp_path)
    assert errors.non_finite


def test_a_shape_over_budget_sends_the_climb_on(fakes, run):
    """Within budget on the images, but not at every shape: the next rung is tried."""
    softmax = fakes.of_kind("Softmax")

    class Sweep:
        def report(self, candidate, precision, budget, work):
            worst = SimpleNamespace(name="1x32x32", stats=FINE)
            return SimpleNamespace(passed=softmax <= kept_in(candidate), worst=worst)

    fakes.errors = lambda kept: FINE
    report = run(sweep=Sweep())
    assert [rung.passed for rung in report.rungs][-1]
    assert not report.rungs[0].passed
    assert report.to_dict()["rungs"][0]["worst_shape"]["name"] == "1x32x32"
