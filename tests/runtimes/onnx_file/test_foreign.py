"""Files that do not say all of themselves: what is beside them, and what their graph shows."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.errors import BundleError, InputError
from glpn_deploy.exporters.calibration.calibration import calibrate
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from tests.refusals import refused


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_foreign_onnx_file_runs_with_its_scale(backend, foreign_onnx, tiny_checkpoint, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with DepthEstimator.load(tiny_checkpoint) as reference:
        expected, scale = reference(image).depth, reference.max_depth
    folder = tmp_path / "optimum"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "onnx").mkdir()
    for place in (folder, folder / "onnx"):
        shutil.copy(foreign_onnx, place)
    sources = [(foreign_onnx, scale), (folder / "model.onnx", None), (folder / "onnx" / "model.onnx", None)]
    for source, max_depth in sources:
        with DepthEstimator.load(source, backend, max_depth=max_depth) as estimator:
            assert (estimator.max_depth, estimator.runtime.precision) == (scale, "fp32")
            np.testing.assert_allclose(estimator(image).depth, expected, rtol=0, atol=1e-4 * scale)


def test_a_scale_that_cannot_be(foreign_onnx, tiny_onnx, tiny_checkpoint):
    with refused(BundleError, fix="--max-depth"):
        DepthEstimator.load(foreign_onnx)
    with pytest.raises(InputError):
        DepthEstimator.load(foreign_onnx, max_depth=-1)
    with pytest.raises(InputError):
        DepthEstimator.load(tiny_onnx, max_depth=81)
    with pytest.raises(InputError):
        DepthEstimator.load(tiny_checkpoint, max_depth=81)


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_a_folder_of_optimums_or_the_hubs_layout_is_a_source(place, foreign_onnx, tiny_checkpoint, tmp_path):
    """config.json and preprocessor_config.json are those of the folder, also for the file itself."""
    folder = tmp_path / "optimum"
    (folder / "onnx").mkdir(parents=True)
    shutil.copy(foreign_onnx, folder / place)
    shutil.copy(tiny_checkpoint / "config.json", folder)
    processor = GLPNImageProcessor(resample=3)
    processor.save_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)  # 64x96 for the network
    with DepthEstimator.load(tiny_checkpoint) as reference:
        bilinear = reference(image).depth
        reference.processor = processor
        expected = reference(image).depth
    assert np.abs(bilinear - expected).max() > 0.01
    for source in (folder, folder / place):
        with DepthEstimator.load(source) as estimator:
            assert f"10 m is that of {folder / 'config.json'}" in estimator.runtime.why
            np.testing.assert_allclose(estimator(image).depth, expected, rtol=0, atol=1e-3)


def test_what_a_tool_converted_is_called_what_it_is(tiny_onnx, tmp_path):
    model = convert_float_to_float16(onnx.load(tiny_onnx), keep_io_types=True)
    onnx.save_model(model, tmp_path / "model.onnx")
    with DepthEstimator.load(tmp_path / "model.onnx", "onnxruntime") as estimator:
        assert estimator.runtime.precision == "fp16"
        assert "says fp32, and its graph is fp16" in estimator.runtime.why


@pytest.mark.parametrize("stripped", [False, True])
def test_auto_takes_what_runs_an_int8_file_for_tensorrt(stripped, tiny_model, tmp_path):
    """OpenVINO refuses INT8 pairs with FP16 scales; computed in its integer kernels they are wrong."""
    source = to_onnx(tiny_model, tmp_path / "fp32.onnx", OnnxOptions(20))
    images = [render_room(seed, 64, 96).image for seed in range(16)]
    ranges = calibrate(source, images, GLPNImageProcessor(), int8_tensors(source))
    path = to_int8(source, tmp_path / "model.onnx", ranges)
    if stripped:
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save_model(model, path)
    with DepthEstimator.load(source) as estimator:
        expected = estimator(images[0]).depth
    with DepthEstimator.load(path, max_depth=10) as estimator:
        assert (estimator.runtime.backend, estimator.runtime.precision) == ("onnxruntime", "int8")
        depth = estimator(images[0]).depth
    assert float(np.mean(np.abs(depth - expected) / expected)) < 0.02
