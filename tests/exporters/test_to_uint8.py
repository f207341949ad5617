"""Graphs that take 8-bit images: the same depth, from a quarter of the bytes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import ConfigError, ExportError, InputError
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions, LowerOptions, OnnxOptions
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.to_uint8 import to_uint8
from glpn_deploy.images.resample import resize_bicubic
from glpn_deploy.proof import parity
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.verification import verify
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from tests.refusals import refused

CPU = RuntimeOptions(device="cpu", threads=1)
IMAGES = np.stack([render_room(seed, 64, 96).image for seed in range(2)])


def plain(path, feed):
    """What ONNX Runtime gives without any of ours; its own settings."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": feed})[0]


def test_every_byte_is_scaled_as_the_processor_scales_it(tiny_onnx, tmp_path):
    path = to_uint8(tiny_onnx, tmp_path / "u.onnx")
    model = onnx.load(str(path))
    model.graph.output.append(onnx.ValueInfoProto(name="pixel_values/images/Div"))
    onnx.save(model, str(tmp_path / "probe.onnx"))
    images = np.resize(np.arange(256, dtype=np.uint8), (1, 32, 32, 3))
    session = ort.InferenceSession(str(tmp_path / "probe.onnx"), providers=["CPUExecutionProvider"])
    (scaled,) = session.run(["pixel_values/images/Div"], {"pixel_values": images})
    np.testing.assert_array_equal(scaled[0], GLPNImageProcessor().prepare(images[0]))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_depth_is_the_same_to_the_last_bit(precision, tiny_onnx, tmp_path):
    source = tiny_onnx
    if precision == "fp16":
        source = to_half(tiny_onnx, tmp_path / "h.onnx", HalfOptions())
    path = to_uint8(source, tmp_path / "u.onnx")
    floats = np.stack([GLPNImageProcessor().prepare(image) for image in IMAGES])
    np.testing.assert_array_equal(plain(path, IMAGES), plain(source, floats))
    given = onnx.load(str(path)).graph.input[0].type.tensor_type
    assert given.elem_type == onnx.TensorProto.UINT8
    assert [side.dim_param or side.dim_value for side in given.shape.dim] == ["batch", "32*h32", "32*w32", 3]
    about = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert about["input"] == "8-bit RGB images (N, H, W, 3), sides multiples of 32"


def test_to_onnx_writes_the_same_graph(tiny_model, tiny_onnx, tmp_path):
    direct = to_onnx(tiny_model, tmp_path / "a.onnx", OnnxOptions(io="uint8"))
    assert direct.read_bytes() == to_uint8(tiny_onnx, tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_runtimes_take_images_and_the_floats_made_of_them(backend, tiny_onnx, tmp_path):
    path = to_uint8(tiny_onnx, tmp_path / "u.onnx")
    assert (read_header(path).input_type, read_header(path).spec.dtype) == ("uint8", "uint8")
    floats = IMAGES.transpose(0, 3, 1, 2) / np.float32(255)
    with load_runtime(backend, path, CPU) as images, load_runtime(backend, tiny_onnx, CPU) as reference:
        expected = reference.run(floats)
        np.testing.assert_allclose(images.run(IMAGES), expected, atol=1e-5)
        np.testing.assert_array_equal(images.run(IMAGES), images.run(floats))
        for wrong in (
            floats + np.float32(0.001),
            IMAGES[:, :, :, :2],
            IMAGES[:, :40],
            np.full_like(floats, np.nan),
        ):
            with pytest.raises(InputError):
                images.run(wrong)
        with refused(InputError, expected="float32"):
            reference.run(IMAGES)


def test_what_takes_images_is_no_source_and_is_not_changed_twice(tiny_onnx, tmp_path):
    path = to_uint8(tiny_onnx, tmp_path / "u.onnx")
    with pytest.raises(ExportError) as twice:
        to_uint8(path, tmp_path / "v.onnx")
    assert "UINT8" in twice.value.got
    with pytest.raises(ExportError) as lowered:
        to_half(path, tmp_path / "h.onnx")
    assert "to_uint8" in lowered.value.fix


@pytest.mark.slow
def test_a_bundle_of_images_from_export_to_verification(tiny_checkpoint, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(20):
        Image.fromarray(render_room(seed, 64, 96).image).save(photos / f"{seed}.png")
    monkeypatch.setattr(parity, "SWEEP", ((1, 32, 32), (2, 64, 96)))
    lower = LowerOptions(precisions=("int8",), target="cpu", images=photos, max_abs_rel=0.3, verdict=False)
    bundle = build_bundle(tiny_checkpoint, tmp_path / "b", BuildOptions(lower=lower, io="uint8"))
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    about = manifest["tensors"]["pixel_values"]
    assert (about["dtype"], about["layout"], about["shape"][3]) == ("uint8", "NHWC", 3)
    assert [artefact["io"] for artefact in manifest["artefacts"]] == ["uint8"] * 2
    for artefact in manifest["artefacts"]:
        assert read_header(bundle.folder / artefact["file"]).input_type == "uint8"
    found = verify(bundle.folder, VerifyOptions(runtime=CPU))
    assert found.passed
    assert found.complete
    image = render_room(77, 70, 100).image  # 64x96 in the network
    bare = GLPNImageProcessor().prepare_bytes(image)
    for precision in ("fp32", "int8"):
        raw = plain(bundle.folder / Bundle.open(bundle.folder).artefact(precision).file, bare[None])[0]
        with DepthEstimator.load(bundle.folder, "onnxruntime", precision, threads=1) as estimator:
            assert estimator.runtime.spec.dtype == "uint8"
            expected = resize_bicubic(raw, image.shape[:2])
            np.testing.assert_allclose(estimator(image).depth, expected, atol=1e-4)
            other = dataclasses.replace(GLPNImageProcessor(), rescale_factor=1.0)
            with refused(ConfigError, got="255"):
                DepthEstimator(estimator.runtime, other, 10.0)


def test_another_processor_is_refused_before_the_work(tiny_checkpoint, tmp_path):
    model = tmp_path / "checkpoint"
    model.mkdir()
    for path in tiny_checkpoint.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    GLPNImageProcessor(do_normalize=True, image_mean=0.5, image_std=0.5).save_pretrained(model)
    with refused(ConfigError, got="255") as caught:
        build_bundle(model, tmp_path / "b", BuildOptions(io="uint8", verify=False))
    assert "--io uint8" in caught.value.fix
    assert not (tmp_path / "b").exists()
