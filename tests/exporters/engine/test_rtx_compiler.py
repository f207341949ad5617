"""Every artefact kind in NVIDIA's own parser and compiler, for real: TensorRT for RTX needs no GPU."""

from __future__ import annotations

import pytest

from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BundleError, ExportError
from glpn_deploy.exporters import to_engine as module
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.explain_graphs import judge_traffic
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.search.network import Network
from glpn_deploy.exporters.to_engine import explain_onnx, to_engine
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.gpu.tensorrt_rtx import DEFAULT_TARGETS, TARGETS, default_targets, unsupported_targets
from glpn_deploy.images.processing import GLPNImageProcessor

pytestmark = pytest.mark.usefixtures("rtx_compiler")

FIXED = Profile.fixed((1, 480, 640))
BATCHES = Profile((1, 480, 640), (1, 480, 640), (4, 480, 640))
SIZES = Profile((1, 256, 320), (1, 480, 640), (2, 480, 640))

# Precision, opset, input and output, shapes: each is compiled for all cards that have the precision.
KINDS = [
    ("fp32", 17, "fp32", FIXED),
    ("fp32", 23, "fp32", SIZES),
    ("fp16", 17, "fp32", FIXED),
    ("fp16", 17, "half", BATCHES),
    ("fp16", 20, "fp32", SIZES),
    ("fp16", 23, "half", FIXED),
    ("bf16", 22, "fp32", FIXED),
    ("bf16", 23, "fp32", BATCHES),
    ("int8", 17, "fp32", FIXED),
    ("int8", 20, "half", FIXED),
    ("int8", 20, "fp32", SIZES),
    ("fp32", 17, "uint8", FIXED),
    ("fp16", 20, "uint8", BATCHES),
    ("int8", 20, "uint8", FIXED),
    ("fp8", 19, "uint8", FIXED),
    ("fp8", 21, "half", BATCHES),
]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "opset", "io", "profile"), KINDS)
def test_every_kind_compiles(artefact, tmp_path, precision, opset, io, profile):
    targets = default_targets(precision)
    options = EngineOptions(profiles=(profile,), precision=precision, targets=targets)
    report = to_engine(artefact(precision, opset, io), tmp_path / "x.engine", options)
    assert set(targets) >= {"8.9", "12.0"}
    assert report.layers[precision] > 20
    assert report.bytes == (tmp_path / "x.engine").stat().st_size > 1 << 20
    assert report.tensorrt.startswith("1.")
    assert report.device_memory_bytes > 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "target"), [("fp16", "8.0"), ("fp16", "8.9"), ("int8", "8.0")])
def test_every_card_alone(artefact, precision, target):
    """A card alone may be compiled for in another way: FP32 for 8.0 has eight times the weights, say."""
    explained = explain_onnx(artefact(precision, 20), EngineOptions(precision=precision, targets=(target,)))
    assert explained.by_kind()["fused attention"][0] == 8
    assert explained.layers[precision] > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("in_fp32", "fused"),
    [
        (("self/Softmax",), 8),
        (("0.0.attention.self/Softmax", "0.0.attention.self.scores/MatMul"), 7),
    ],
)
def test_softmax_may_be_fp32_and_its_products_may_not(artefact, tmp_path, in_fp32, fused):
    """What the search may keep in FP32 at no cost, and what it counts."""
    source = artefact("source", 20)
    nodes = frozenset(node.name for node in load_graph(source).graph.node if node.name.endswith(in_fp32))
    graph = to_half(source, tmp_path / "kept.onnx", HalfOptions(fp32_nodes=nodes))
    explained = explain_onnx(graph, EngineOptions(precision="fp16", targets=DEFAULT_TARGETS))
    assert explained.by_kind()["fused attention"][0] == fused
    network = Network(source, [], GLPNImageProcessor(), tmp_path)
    assert network.attentions(nodes) == 8 - fused


@pytest.mark.slow
def test_glpn_nyus_layers_are_fused_and_int8_does_not_pay(make_artefacts):
    """What `exporters.graph.tensorrt_graph` is for, at 1x480x640; random weights, the real widths.

    One block a stage, where glpn-nyu has 3 to 27 of the same: they compile alike, in ten times the time.
    Compiled for all cards at once, which takes no longer than for one, and gives the same kernels.
    """
    made = make_artefacts(random_model(NYU.replace(depths=(1, 1, 1, 1)), 0))
    half, int8 = (
        explain_onnx(made(precision, 20), EngineOptions(precision=precision, targets=DEFAULT_TARGETS))
        for precision in ("fp16", "int8")
    )
    about = half.to_dict()
    assert (about["fused_attention"], about["unfused_softmax"]) == (4, 0)
    assert about["kernels"] <= 74
    assert about["traffic_bytes"] <= 0.435e9
    assert int8.to_dict()["fused_attention"] == 4
    assert int8.weights_bytes <= 0.30 * made("source", 20).stat().st_size
    assert int8.traffic_bytes <= 0.61e9
    verdict = judge_traffic(int8, half, "int8", "fp16")
    assert not verdict.recommended
    assert verdict.sentence.startswith("int8 moves more bytes than fp16 (")
    assert verdict.sentence.endswith("not worth it there")


@pytest.mark.parametrize(
    ("precision", "opset", "target"),
    [("fp32", 17, "7.5"), ("bf16", 22, "7.5"), ("int8", 17, "7.5"), ("fp8", 20, "8.0"), ("fp8", 20, "8.6")],
)
def test_what_the_compiler_refuses_is_refused_before(
    artefact, tmp_path, monkeypatch, precision, opset, target
):
    path, options = artefact(precision, opset), EngineOptions(precision=precision, targets=(target,))
    with pytest.raises(ExportError) as ours:
        to_engine(path, tmp_path / "x.engine", options)
    assert ours.value.got == unsupported_targets(precision, (target,))
    assert f"--sm {','.join(default_targets(precision)).replace('.', '')}" in ours.value.fix
    monkeypatch.setattr(module, "check_request", lambda *_: None)
    with pytest.raises(ExportError) as theirs:
        to_engine(path, tmp_path / "x.engine", options)
    assert "Myelin" in theirs.value.got  # the compiler's own words
    assert not list(tmp_path.iterdir())


def test_the_oldest_and_the_newest_card(artefact):
    """Those outside of the default, which are not refused."""
    assert {"7.5", "12.1"} == {*TARGETS} - {*DEFAULT_TARGETS}
    for target in ("7.5", "12.1"):
        assert unsupported_targets("fp16", (target,)) is None
        explained = explain_onnx(artefact("fp16", 17), EngineOptions(precision="fp16", targets=(target,)))
        assert explained.by_kind()["fused attention"][0] == 8


def test_a_graph_that_lost_its_types_is_refused(artefact, tmp_path):
    with pytest.raises(ExportError) as caught:
        to_engine(
            artefact("fp32", 17), tmp_path / "x.engine", EngineOptions(precision="fp16", targets=("8.9",))
        )
    assert "no layer of the engine computes in fp16" in caught.value.got


def test_an_unknown_operator_names_the_node(artefact, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(artefact("fp32", 17))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(BundleError) as caught:  # before NVIDIA's parser sees it
        to_engine(tmp_path / "odd.onnx", tmp_path / "x.engine", EngineOptions(targets=("8.9",)))
    assert node.name in caught.value.got
