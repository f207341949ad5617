"""A network in memory, changed from what its configuration says, all the way to a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glpn_deploy import DepthEstimator, GLPNForDepthEstimation, GLPNImageProcessor
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters import build as build_module
from glpn_deploy.exporters.build import build, build_bundle
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.graph.graph_edit import load_graph
from glpn_deploy.exporters.network.source import from_demo, load_source
from glpn_deploy.exporters.options import BuildOptions, CalibrationOptions, LowerOptions, OnnxOptions
from glpn_deploy.exporters.search.network import Network
from glpn_deploy.exporters.to_engine import explain_onnx
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.parity import SWEEP
from glpn_deploy.proof.verification import verify

TRACED = OnnxOptions(opset=20, route="trace")


@pytest.fixture(scope="module")
def bundle(changed, tmp_path_factory) -> Bundle:
    """The changed network in FP32, FP16 and INT8, calibrated and checked on small rooms."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(10):
        Image.fromarray(render_room(seed, 64, 96).image).save(folder / f"{seed}.png")
    lower = LowerOptions(
        precisions=("fp16", "int8"),
        images=folder,
        target="tensorrt",
        calibration=CalibrationOptions(max_images=8),
        verdict=False,
        sweep=False,
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(build_module, "_GOLDEN_ROOMS", ((64, 96),))
    try:
        made = build(changed, folder.parent / "bundle", BuildOptions(onnx=TRACED, lower=lower))
    finally:
        patch.undo()
    assert [len(search.candidates) for search in made.searches] == [1, 1]
    return made.bundle


def test_a_changed_network_becomes_a_bundle_with_its_precisions(bundle, changed):
    manifest = bundle.manifest
    assert [artefact.route for artefact in manifest.artefacts] == [
        "checkpoint -> trace -> onnx",
        "checkpoint -> trace -> onnx -> fp16",
        "checkpoint -> trace -> onnx -> int8",
    ]
    assert len(manifest.artefacts[0].parity["cases"]) == len(SWEEP)  # against torch
    assert manifest.artefacts[0].parity["passed"]
    assert manifest.source["source"] == "GLPNForDepthEstimation"
    assert len(manifest.source["digest"]) == 64
    half, quantized = (load_graph(bundle.path(f"model.{name}.onnx")) for name in ("fp16", "int8"))
    assert [node.op_type for node in half.graph.node].count("Cast") == 2  # at the input, and before the tail
    quantized_inputs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized_inputs) > 12
    full = sum(p.numel() for p in changed.parameters()) * 4
    assert bundle.path("model.int8.onnx").stat().st_size < bundle.path("model.onnx").stat().st_size
    assert bundle.path("model.onnx").stat().st_size > full


def test_its_bundle_verifies_and_predicts_what_torch_does(bundle, changed):
    report = verify(bundle.folder, VerifyOptions(sweep=False))
    assert report.passed
    image = render_room(77, 64, 96).image
    x = torch.from_numpy(GLPNImageProcessor().prepare(image)[None])
    with torch.inference_mode():
        expected = changed(x).predicted_depth[0].numpy()
    assert expected.std() > 0.01
    for precision, relative in (("fp32", 1e-5), ("fp16", 1e-3), ("int8", 2e-2)):
        with DepthEstimator.load(
            bundle.folder, backend="onnxruntime", precision=precision, allow_fallback=True
        ) as estimator:
            np.testing.assert_allclose(estimator(image).depth, expected, rtol=relative)


def test_its_groups_are_ranked(bundle, tmp_path):
    """The layer-wise search finds its way in a traced graph: each group alone in FP16 moves the depth."""
    images = [render_room(seed, 64, 96).image for seed in range(2)]
    network = Network(bundle.path("model.onnx"), images, GLPNImageProcessor(), tmp_path)
    head = {"head.wider/Conv", "head.last/Conv", "head.block.norm/Conv", "head/Add"}
    assert network.head() >= head
    assert network.first_convolution() == {"glpn.encoder.patch_embeddings.0.proj/Conv"}

    def write(nodes: frozenset[str], path: Path) -> Path:
        return to_half(bundle.path("model.onnx"), path, HalfOptions(fp32_nodes=nodes))

    ranked = network.ranked(write, network.reductions())
    assert {item.group for item in ranked} == set(network.groups)
    assert all(item.errors.abs_rel < 1e-3 for item in ranked)
    assert all(item.errors.abs_rel > 0 for item in ranked if item.group.endswith(("attention", "mlp")))


@pytest.mark.usefixtures("rtx_compiler")
def test_nvidias_compiler_takes_its_precisions(bundle):
    for precision in ("fp16", "int8"):
        options = EngineOptions(profiles=(Profile.fixed((1, 64, 96)),), precision=precision, targets=("8.9",))
        explained = explain_onnx(bundle.path(f"model.{precision}.onnx"), options)
        assert explained.layers[precision] > 10


def test_what_was_loaded_from_a_checkpoint_keeps_its_processor_and_its_origin(tiny_checkpoint, tmp_path):
    model = GLPNForDepthEstimation.from_pretrained(tiny_checkpoint)
    before = load_source(tiny_checkpoint, BuildOptions())
    GLPNImageProcessor(size_divisor=64).save_pretrained(tiny_copy := tmp_path / "checkpoint")
    model.save_pretrained(tiny_copy)
    model = GLPNForDepthEstimation.from_pretrained(tiny_copy)
    torch.nn.init.zeros_(model.head.head[2].bias)
    loaded = load_source(model.train(), BuildOptions())
    assert not loaded.model.training
    assert loaded.processor.size_divisor == 64
    assert loaded.info.source == "checkpoint, as GLPNForDepthEstimation"
    assert loaded.info.digest != load_source(tiny_copy, BuildOptions()).info.digest
    assert before.config.network() == loaded.config.network()


def test_a_network_in_memory_takes_no_checkpoints_options(changed, tmp_path):
    with pytest.raises(InputError) as caught:
        build_bundle(changed, tmp_path / "b", BuildOptions(max_depth=80, revision="main"))
    assert "max_depth and revision" in caught.value.got
    with pytest.raises(ExportError) as refused:
        build_bundle(changed, tmp_path / "b")
    assert 'route="trace"' in refused.value.fix
    assert not list(tmp_path.iterdir())


def test_a_changed_demo_network_is_the_demo_network(small):
    assert from_demo("demo")
    assert from_demo(GLPNForDepthEstimation.from_pretrained("demo"))
    assert not from_demo(Path("demo"))
    assert not from_demo(small())
