"""An image in, metres out: against transformers' pipeline, for every kind and size of image."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import typing
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.data
import torch
import transformers
from PIL import Image

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy import estimator as estimator_module
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    ConfigError,
    EngineError,
    ImageError,
    InputError,
    MissingDependencyError,
    UnavailableError,
)
from glpn_deploy.exporters.to_half import HalfOptions, to_half
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.optional import install_line
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes import choose, memory, rt_onnxruntime, rt_openvino
from glpn_deploy.runtimes.base import InputSpec
from glpn_deploy.runtimes.options import LoadOptions, RuntimeKeywords, RuntimeOptions
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.runtimes.sources import nearest_options
from tests.refusals import refused

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "retina")


def photograph(name: str) -> Image.Image:
    """One of the photographs in scikit-image's wheel, at most 700 px wide."""
    folder = skimage.data.__file__.rsplit("/", 1)[0]
    image = Image.open(f"{folder}/{name}.{'jpg' if name in ('rocket', 'retina') else 'png'}").convert("RGB")
    image.thumbnail((700, 700))
    return image


@pytest.fixture(scope="module")
def estimator(tiny_bundle):
    with DepthEstimator.load(tiny_bundle, "onnxruntime", threads=1, device="cpu") as estimator:
        yield estimator


class Recording(NullRuntime):
    """Keeps the shapes it was given; every image's depth is its own mean, so that order shows."""

    def __init__(self, spec: InputSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or InputSpec()
        self.shapes: list[tuple[int, ...]] = []

    def _infer(self, pixel_values):
        self.shapes.append(pixel_values.shape)
        means = pixel_values.mean(axis=(1, 2, 3), keepdims=True)[:, 0]
        return np.broadcast_to(means, (len(pixel_values), *pixel_values.shape[2:])).copy()


def grey(value: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


# Against transformers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    model = transformers.GLPNForDepthEstimation.from_pretrained(tiny_checkpoint)
    processor = transformers.AutoImageProcessor.from_pretrained(tiny_checkpoint, backend="pil")
    return transformers.pipeline("depth-estimation", model=model, image_processor=processor)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_equals_the_pipeline_of_transformers(name, estimator, pipeline):
    image = photograph(name)
    expected = pipeline(image)["predicted_depth"].numpy()
    depth_map = estimator(image)
    assert depth_map.depth.shape == (image.height, image.width) == expected.shape
    assert depth_map.depth.dtype == np.float32
    assert expected.std() > 0.01, "the comparison would mean nothing"
    np.testing.assert_allclose(depth_map.depth, expected, rtol=0, atol=1e-4 * 10)


# Sources ----------------------------------------------------------------------------------------------


def test_bundle_file_and_checkpoint_give_the_same_depth(estimator, tiny_bundle, tiny_checkpoint):
    image = photograph("chelsea")
    expected = estimator(image).depth
    onnx_file = tiny_bundle / "model.onnx"
    for source, backend in (
        (onnx_file, "onnxruntime"),
        (onnx_file, "openvino"),
        (tiny_bundle, "openvino"),
        (tiny_checkpoint, "torch"),
    ):
        with DepthEstimator.load(source, backend, device="cpu", threads=1) as other:
            assert (other.runtime.backend, other.max_depth, other.runtime.why) == (backend, 10, "")
            np.testing.assert_allclose(other(image).depth, expected, rtol=0, atol=1e-5 * 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "tensorflow"}, "backend is 'tensorflow'; expected one of auto, onnxruntime, openvino"),
        ({"backend": "torch"}, "the backend 'torch' does not run a bundle"),
        ({"precision": "half"}, "precision is 'half'; expected one of auto, fp32"),
        ({"precision": "FP32"}, "precision is 'FP32'"),
        ({"device": "gpu"}, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"threads": 0}, "threads is 0"),
        ({"mode": "fast"}, "mode is 'fast'; expected one of auto, latency, throughput, worker"),
    ],
)
def test_wrong_names(options, words, tiny_bundle):
    with pytest.raises(InputError, match=words):
        DepthEstimator.load(tiny_bundle, **options)


def test_a_precision_the_source_has_not(tiny_bundle, tiny_checkpoint):
    for source, options, lacks, has in (
        (tiny_bundle, {"precision": "int8"}, "has no int8 artefact", "fp32"),
        (tiny_bundle, {"backend": "onnxruntime", "precision": "fp16"}, "has no fp16 artefact", "fp32"),
        (tiny_bundle / "model.onnx", {"precision": "int8"}, "precision int8 was asked for", "fp32"),
        (tiny_bundle / "model.onnx", {"precision": "int8+bf16"}, "precision int8+bf16 was asked for", "fp32"),
        (tiny_checkpoint, {"precision": "fp8"}, "the torch backend does not run fp8", "fp32"),
        (tiny_checkpoint, {"precision": "int8+bf16"}, "precision int8+bf16 was asked for", "fp32"),
    ):
        with pytest.raises(UnavailableError) as caught:
            DepthEstimator.load(source, **options)
        assert lacks in caught.value.got
        assert has in caught.value.expected
        with DepthEstimator.load(source, **options, allow_fallback=True) as estimator:
            assert estimator.runtime.precision == "fp32"
            assert lacks in estimator.runtime.why
            assert "--allow-fallback" not in estimator.runtime.why  # it was given


@pytest.mark.parametrize("backend", ["openvino", "auto"])
def test_a_precision_that_the_processor_lacks(backend, tiny_bundle, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("glpn_deploy.runtimes.rt_openvino.native_precisions", lambda: ["fp32", "bf16"])
    asked = {"backend": backend, "precision": "fp16", "device": "cpu", "threads": 1}
    with pytest.raises(UnavailableError) as caught:
        DepthEstimator.load(tiny_bundle, **asked)
    for part in ("precision fp16 was asked for", "AVX512_FP16", "OpenVINO computes in fp32 and bf16 here"):
        assert part in caught.value.got
    assert caught.value.exit_code == 2
    assert "--allow-fallback" in caught.value.fix
    with DepthEstimator.load(tiny_bundle, **asked, allow_fallback=True) as estimator:
        assert estimator.runtime.precision == "fp32"
        assert "runs in fp32, not fp16" in estimator.runtime.why


def test_fp16_is_not_what_onnxruntime_computes_in_on_a_cpu(tiny_onnx, tmp_path):
    file = to_half(tiny_onnx, tmp_path / "model.fp16.onnx", HalfOptions("fp16"))
    with pytest.raises(UnavailableError) as caught:
        DepthEstimator.load(file, "onnxruntime", "fp16", "cpu")
    assert "computes FP16 files in fp32" in caught.value.got
    with DepthEstimator.load(file, "onnxruntime", device="cpu") as estimator:  # not asked for by name
        assert "computes FP16 files in fp32" in estimator.runtime.why


def test_a_device_that_is_not_there_may_be_replaced(tiny_bundle):
    pytest.importorskip("openvino")
    asked = {"backend": "openvino", "device": "cuda"}
    with pytest.raises(UnavailableError):
        DepthEstimator.load(tiny_bundle, **asked)
    with DepthEstimator.load(tiny_bundle, **asked, allow_fallback=True) as estimator:
        assert "not as asked for: the openvino backend runs on the CPU only" in estimator.runtime.why


def test_what_is_nearest_keeps_to_the_cpu_where_that_is_asked_for():
    asked = LoadOptions(backend="openvino", precision="fp16", runtime=RuntimeOptions(device="cpu"))
    nearest = nearest_options(asked)
    assert (nearest.backend, nearest.precision, nearest.runtime.device) == ("auto", "auto", "cpu")


def test_int8_with_bf16():
    options = LoadOptions(precision="int8+bf16").resolved()
    assert (options.precision, options.fallback_precision) == ("int8", "bf16")
    with refused(InputError, got="backend 'onnxruntime' for bf16 beside INT8"):
        DepthEstimator.load("anything", "onnxruntime", "int8+bf16")


def test_nothing_to_load(tmp_path, tiny_onnx):
    with refused(BundleError, got=("neither a bundle", "nor a checkpoint")):
        DepthEstimator.load(tmp_path)
    with pytest.raises(CheckpointError):
        DepthEstimator.load(tmp_path / "nowhere")
    with refused(BundleError, got="there is no file"):
        DepthEstimator.load(tmp_path / "nowhere.onnx")
    model = onnx.load(str(tiny_onnx))
    del model.metadata_props[:]
    onnx.save_model(model, str(tmp_path / "other.onnx"))
    with refused(BundleError, got="does not say what depth it gives"):
        DepthEstimator.load(tmp_path / "other.onnx")


def test_damage_is_found_on_loading(bundle_copy):
    content = bytearray((bundle_copy / "model.onnx").read_bytes())
    content[-100] ^= 1
    (bundle_copy / "model.onnx").write_bytes(content)
    with refused(BundleError, got="changed since the export"):
        DepthEstimator.load(bundle_copy)


def test_missing_backends_name_the_line(tiny_bundle, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for source, extra in ((tiny_bundle, "cpu"), (tiny_checkpoint, "export")):
        with refused(MissingDependencyError, fix=install_line(extra)):
            DepthEstimator.load(source)
    for options in ({"backend": "openvino"}, {"precision": "bf16"}):  # which only OpenVINO has on a CPU
        with refused(MissingDependencyError, fix=install_line("openvino")):
            DepthEstimator.load(tiny_bundle, **options)


@pytest.mark.parametrize("backend", ["null", "tvm"])
def test_a_backend_that_runs_no_network_is_refused(backend, tiny_bundle):
    with pytest.raises(InputError) as caught:
        DepthEstimator.load(tiny_bundle, backend=backend)
    assert caught.value.expected == "one of auto, onnxruntime, openvino, tensorrt, tensorrt_rtx, torch"


def test_load_takes_every_option_of_the_runtime_by_its_name():
    named = {*inspect.signature(DepthEstimator.load).parameters, *typing.get_type_hints(RuntimeKeywords)}
    assert {field.name for field in dataclasses.fields(RuntimeOptions)} - named == {"profile"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (InputSpec(size_multiple=64), "size_divisor is 32; expected a multiple of 64"),
        (InputSpec(channels=1), "takes 1 channels; expected 3"),
    ],
)
def test_a_network_that_images_do_not_fit(spec, words):
    with pytest.raises(ConfigError, match=words):
        DepthEstimator(Recording(spec), GLPNImageProcessor(), 10.0)


def test_closed(tiny_bundle, tiny_checkpoint):
    for source in (tiny_bundle, tiny_checkpoint):
        with DepthEstimator.load(source, device="cpu") as estimator:
            estimator(grey(7))
        estimator.close()
        with refused(BackendError, got="runtime is closed", fix="load it again"):
            estimator(grey(7))


# Backends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["bundle", "file"])
def test_bf16_runs_from_the_fp32_file_and_says_what_it_is(source, tiny_bundle):
    path = tiny_bundle if source == "bundle" else tiny_bundle / "model.onnx"
    with DepthEstimator.load(path, precision="bf16", device="cpu", threads=1) as estimator:
        about = estimator.runtime.describe()
        assert about["backend"] == "openvino"
        native = "bf16" in rt_openvino.native_precisions()
        assert about["precision"] == ("bf16" if native else "fp32")
        assert ("this processor has no bf16 arithmetic" in about["why"]) == (not native)
        assert estimator(photograph("chelsea")).depth.std() > 0.01


def test_auto_takes_one_and_says_why(tiny_bundle):
    with DepthEstimator.load(tiny_bundle, device="cpu") as estimator:
        assert estimator.runtime.describe()["precision"] == "fp32"
        assert estimator.runtime.why.startswith(f"auto took {estimator.runtime.backend}: ")


def test_measure_keeps_one_and_says_its_times(tiny_bundle, estimator):
    image = photograph("chelsea")
    with DepthEstimator.load(tiny_bundle, device="cpu", threads=1, measure=True) as other:
        np.testing.assert_allclose(other(image).depth, estimator(image).depth, rtol=0, atol=1e-5 * 10)
        why = other.runtime.describe()["why"]
        assert re.match(rf"auto took {other.runtime.backend}, measured on 1x288x448: \w+ [\d.e+]+ ms, ", why)


def test_auto_goes_on_to_the_next_where_one_does_not_load(tiny_bundle, monkeypatch):
    def broken(path, options):
        raise BackendError("no such kernel")

    monkeypatch.setattr(choose, "cpu_flags", lambda: frozenset({"avx512f"}))
    monkeypatch.setattr(rt_openvino, "load", broken)
    with DepthEstimator.load(tiny_bundle, device="cpu") as estimator:
        assert estimator.runtime.backend == "onnxruntime"
        assert "openvino does not load it (no such kernel.)" in estimator.runtime.why
    with refused(BackendError, got="no such kernel"):
        DepthEstimator.load(tiny_bundle, "openvino")


def test_the_cache_is_written_where_it_is_asked_for(tiny_bundle, tmp_path):
    image, depths = photograph("chelsea"), []
    for _ in range(2):
        with DepthEstimator.load(tiny_bundle, "openvino", threads=1, cache=tmp_path / "cache") as estimator:
            depths.append(estimator(image).depth)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    np.testing.assert_array_equal(*depths)


# Images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "1", "F", "YCbCr", "PA"])
def test_every_mode_gives_a_map_of_the_images_size(mode, estimator):
    picture = photograph("coffee").resize((101, 67))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)
    elif mode == "F":
        image = Image.fromarray(np.asarray(picture.convert("L")).astype(np.float32) / 255)
    elif mode == "PA":
        image = picture.convert("P").convert("PA")
    else:
        image = picture.convert(mode)
    assert image.mode == mode
    depth = estimator(image).depth
    assert depth.shape == (67, 101)
    assert np.isfinite(depth).all()


def test_path_pil_and_array_are_the_same_image(estimator, tmp_path):
    image = photograph("chelsea").resize((100, 70))
    image.save(tmp_path / "cat.png")
    maps = [estimator(source) for source in (tmp_path / "cat.png", str(tmp_path / "cat.png"), image)]
    for depth_map in maps:
        np.testing.assert_array_equal(depth_map.depth, estimator(np.asarray(image)).depth)


def test_orientation_is_honoured(estimator, tmp_path):
    image = photograph("chelsea").resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    depth = estimator(tmp_path / "turned.png").depth
    assert depth.shape == (96, 64)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(depth, estimator(upright).depth)


@pytest.mark.parametrize("size", [(32, 32), (33, 63), (32, 500), (401, 97)])
def test_every_size_from_32_px_up(size, estimator):
    assert estimator(grey(99, *size)).depth.shape == size


@pytest.mark.parametrize("size", [(31, 500), (500, 31), (1, 1)])
def test_below_32_px(size, estimator):
    with refused(ImageError, expected="at least 32 px on either side"):
        estimator(grey(99, *size))


# Lists ------------------------------------------------------------------------------------------------


def test_mixed_sizes_keep_their_order_and_equal_single_calls(estimator):
    sizes = [(64, 96), (96, 64), (70, 100), (64, 96), (130, 64), (95, 65), (64, 127)]
    coffee = photograph("coffee")
    images = [coffee.rotate(10 * i).resize((w, h)) for i, (h, w) in enumerate(sizes)]
    maps = estimator.predict(images, batch_size=3)
    assert [depth_map.depth.shape for depth_map in maps] == sizes
    for image, depth_map in zip(images, maps, strict=True):
        np.testing.assert_allclose(depth_map.depth, estimator(image).depth, rtol=0, atol=1e-5 * 10)


def test_images_of_one_network_size_share_batches():
    runtime = Recording()
    estimator = DepthEstimator(runtime, GLPNImageProcessor(), 10.0)
    sizes = [(64, 64), (64, 96), (65, 70), (64, 64), (96, 64), (95, 95)]
    images = [grey(40 * i, *size) for i, size in enumerate(sizes)]
    maps = estimator.predict(images, batch_size=2)
    assert runtime.shapes == [(2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 96), (1, 3, 96, 64)]
    for i, (size, depth_map) in enumerate(zip(sizes, maps, strict=True)):
        np.testing.assert_allclose(depth_map.depth, np.full(size, 40 * i / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "asked", "shape"),
    [
        (InputSpec(), (1, 70, 100), (1, 3, 64, 96)),
        (InputSpec(), (3, 64, 64), (3, 3, 64, 64)),
        (InputSpec(max_batch=2), (3, 64, 64), (2, 3, 64, 64)),
        (InputSpec(batch=4), (1, 64, 64), (4, 3, 64, 64)),
    ],
)
def test_a_warm_up_shows_the_network_what_images_will(spec, asked, shape):
    network = Recording(spec)
    estimator = DepthEstimator(network, GLPNImageProcessor(), max_depth=10)
    batch, height, width = asked
    estimator.warmup(height, width, batch)
    assert network.shapes == [shape]
    estimator.predict([grey(1, height, width)] * batch, batch_size=batch)
    assert network.shapes[1] == shape


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_after_a_warm_up_calls_give_what_they_gave(backend, tiny_bundle, tiny_checkpoint, estimator):
    source = tiny_checkpoint if backend == "torch" else tiny_bundle
    image = photograph("chelsea")
    with DepthEstimator.load(source, backend, device="cpu") as warm:
        warm.warmup(image.height, image.width)
        np.testing.assert_allclose(warm(image).depth, estimator(image).depth, atol=1e-3)
        with pytest.raises(InputError):
            warm.warmup(0, 64)
    with refused(BackendError, got="closed"):
        warm.warmup(64, 64)


@pytest.mark.parametrize("fixed", [1, 2, 4])
def test_a_fixed_batch_is_filled_up(fixed):
    """Engines and static graphs take one batch size; what is missing is repeated and thrown away."""
    runtime = Recording(InputSpec(batch=fixed))
    estimator = DepthEstimator(runtime, GLPNImageProcessor(), 10.0)
    maps = estimator.predict([grey(10 * i) for i in range(5)], batch_size=3)
    assert {shape[0] for shape in runtime.shapes} == {fixed}
    means = [depth_map.depth.mean() for depth_map in maps]
    np.testing.assert_allclose(means, [10 * i / 255 for i in range(5)], atol=1e-6)


def test_the_map_knows_its_scale_and_its_source(estimator, tmp_path):
    photograph("chelsea").save(tmp_path / "cat.png")
    from_file, from_array = estimator.predict([tmp_path / "cat.png", grey(9)])
    assert from_file.max_depth == 10
    assert from_file.source == str(tmp_path / "cat.png")
    assert from_array.source is None


def test_batches_are_prepared_while_the_one_before_computes():
    """Three batches of which each takes 50 ms to prepare and 50 ms to run: less than one after the other."""

    class Slow(GLPNImageProcessor):
        def prepare(self, image):
            time.sleep(0.05)
            return super().prepare(image)

    runtime = NullRuntime(delay_ms=50)
    estimator = DepthEstimator(runtime, Slow(), 10.0)
    images = [grey(0)] * 6
    start = time.perf_counter()
    estimator.predict(images, batch_size=1)
    assert 0.35 <= time.perf_counter() - start < 0.55  # 0.60 without


def test_images_are_read_while_the_network_computes_and_not_all_at_once(tmp_path, monkeypatch):
    runtime, reads, read_by = Recording(), [], []

    def reading(source, **options):
        reads.append(source)
        return load_image(source, **options)

    run = runtime.run

    def running(batch):
        read_by.append(len(reads))
        return run(batch)

    monkeypatch.setattr(estimator_module, "load_image", reading)
    monkeypatch.setattr(runtime, "run", running)
    images = [grey(value, 64, 64 if value % 3 else 96) for value in range(1, 21)]  # two sizes, mixed
    maps = DepthEstimator(runtime, GLPNImageProcessor(), 10.0).predict(images, batch_size=2)
    means = [float(depth_map.depth.mean()) for depth_map in maps]
    np.testing.assert_allclose(means, np.arange(1, 21) / 255, rtol=1e-5)
    assert read_by[0] <= 6  # its own two, the other size's one, and what is read ahead
    assert read_by[-1] == len(reads) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallback_precision": "bf16"}, "fallback_precision bf16 with precision fp32; expected int8"),
        (
            {"fallback_precision": "bf16", "precision": "int8", "backend": "onnxruntime"},
            "bf16 beside INT8; expected auto or",
        ),
        ({"fallback_precision": "fp16"}, "fallback_precision is 'fp16'; expected one of fp32, bf16"),
        ({"measure": True, "backend": "openvino"}, "measure with backend openvino; expected backend auto"),
    ],
)
def test_options_that_do_not_go_together(options, message, tiny_bundle):
    with pytest.raises(InputError, match=message):
        DepthEstimator.load(tiny_bundle, **options)


def test_batches_of_one_on_a_cpu_unless_asked():
    runtime = Recording()
    runtime.device = "cpu"
    DepthEstimator(runtime, GLPNImageProcessor(), 10.0).predict([grey(1)] * 3)
    assert runtime.shapes == [(1, 3, 64, 64)] * 3


def test_a_stream_in_batches_keeps_the_order_and_every_bad_image_its_own_error(tmp_path):
    class NoNines(Recording):
        def _infer(self, pixel_values):
            if (abs(pixel_values - 9 / 255) < 1e-6).any():
                raise BackendError("nine")
            return super()._infer(pixel_values)

    (tmp_path / "note.txt").write_text("x")
    runtime = NoNines()
    estimator = DepthEstimator(runtime, GLPNImageProcessor(), 10.0)
    wide = grey(50, 64, 96)
    images = [wide, grey(1), grey(2), tmp_path / "note.txt", grey(9), grey(3), grey(4), wide, grey(5, 20, 9)]
    results = list(estimator.stream(images, batch_size=3))
    assert [id(found.item) for found in results] == [id(image) for image in images]
    assert [found.index for found in results] == list(range(9))
    assert [number for number, found in enumerate(results) if found.error] == [3, 4, 8]
    assert results[4].error.got == "nine"
    means = [round(255 * float(found.depth_map.depth.mean())) for found in results if not found.error]
    assert means == [50, 1, 2, 3, 4, 50]
    # the batch with the nine is run again one by one
    assert runtime.shapes == [(1, 3, 64, 64)] * 2 + [(2, 3, 64, 96), (2, 3, 64, 64)]
    maps = estimator.predict(images, 3, on_error="skip")
    assert [type(found).__name__ for found in maps] == [
        "ImageError" if found.error else "DepthMap" for found in results
    ]
    with pytest.raises(BackendError) as failed:
        estimator.predict([grey(9)] * 2, 2)
    assert failed.value.got == "nine"
    unknown: Any = "ignore"
    with pytest.raises(InputError) as caught:
        estimator.predict([], on_error=unknown)
    assert caught.value.expected == "raise or skip"


def test_an_image_that_cannot_be_fetched_is_its_items_error(estimator):
    def fetch(item):
        if item == "b":
            raise ImageError("b is gone")
        return grey(9)

    found = list(estimator.stream("abc", fetch))
    assert [one.error and one.error.got for one in found] == [None, "b is gone", None]


def test_a_person_can_read_what_an_estimator_is(estimator):
    assert repr(estimator) == "DepthEstimator(onnxruntime in fp32 on cpu, to 10 m)"


def test_a_stream_gives_what_was_given_and_its_depth_or_error_in_order(estimator, tmp_path):
    (tmp_path / "note.txt").write_text("x")
    images = [grey(200, 40, 50), tmp_path / "note.txt", photograph("chelsea"), grey(9, 31, 99), grey(80)]
    results = list(estimator.stream(iter(images)))
    assert [id(result.item) for result in results] == [id(image) for image in images]
    for result in results:
        if result.error is None:
            np.testing.assert_array_equal(result.depth_map.depth, estimator(result.item).depth)
            np.testing.assert_array_equal(result.image, load_image(result.item))
    assert [result.error is not None for result in results] == [False, True, False, True, False]
    with refused(ImageError, got="note.txt"):
        _ = results[1].depth_map


@pytest.mark.parametrize("read_ahead", [True, False])
def test_items_of_a_stream_carry_anything(estimator, read_ahead):
    items = [SimpleNamespace(image=grey(value), pts=value) for value in (3, 1, 2)]
    results = list(estimator.stream(items, read_ahead=read_ahead))
    assert [result.item.pts for result in results] == [3, 1, 2]
    assert [int(result.image[0, 0, 0]) for result in results] == [3, 1, 2]
    named = list(estimator.stream(items, lambda item: grey(item.pts + 5), read_ahead=read_ahead))
    assert [int(result.image[0, 0, 0]) for result in named] == [8, 6, 7]


def test_a_stream_that_does_not_read_ahead_takes_one_item_when_the_one_before_is_done():
    """So that a camera's frame does not get old while it waits."""
    events = []

    def images():
        for value in range(4):
            events.append(f"take {value}")
            yield grey(value)

    class Telling(NullRuntime):
        def _infer(self, pixel_values):
            events.append("run")
            return super()._infer(pixel_values)

    estimator = DepthEstimator(Telling(), GLPNImageProcessor(), 10.0)
    assert len(list(estimator.stream(images(), read_ahead=False))) == 4
    assert events == [event for value in range(4) for event in (f"take {value}", "run")]


def test_a_stream_that_is_left_early_reads_no_further(estimator):
    read = []
    closed = []

    def images():
        try:
            for value in range(100):
                read.append(value)
                yield grey(value)
        finally:
            closed.append(True)

    stream = estimator.stream(images())
    next(stream)
    stream.close()
    assert len(read) <= 5
    assert closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glpn-pipeline")]


def test_what_the_network_raises_ends_the_stream():
    class Failing(NullRuntime):
        runs = 0

        def _infer(self, pixel_values):
            self.runs += 1
            if self.runs == 2:
                raise OSError("gone")
            return super()._infer(pixel_values)

    estimator = DepthEstimator(Failing(), GLPNImageProcessor(), 10.0)
    stream = estimator.stream([grey(1), grey(2), grey(3)])
    assert next(stream).error is None
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_an_empty_list_gives_an_empty_list(estimator):
    assert estimator.predict([]) == []


@pytest.mark.parametrize("images", ["cat.png", grey(9), None, Image.new("RGB", (64, 64)), 7])
def test_one_image_is_not_a_list(images, estimator):
    with refused(InputError, expected="a list of images"):
        estimator.predict(images)


@pytest.mark.parametrize("batch_size", [0, 2.5, "4"])
def test_nonsense_batch_size(batch_size, estimator):
    with refused(InputError, got=f"a batch size of {batch_size!r}", expected="a whole number"):
        estimator.predict([grey(9)], batch_size=batch_size)


def test_one_bad_image_says_which(estimator, tmp_path):
    (tmp_path / "note.txt").write_text("x")
    with refused(ImageError, got="note.txt"):
        estimator.predict([grey(9), tmp_path / "note.txt"])


def test_a_moved_bundle_still_works(bundle_copy, estimator, tmp_path):
    moved = shutil.move(bundle_copy, tmp_path / "moved")
    with DepthEstimator.load(moved, "onnxruntime", device="cpu", threads=1) as other:
        np.testing.assert_array_equal(other(grey(9)).depth, estimator(grey(9)).depth)


# Engines ----------------------------------------------------------------------------------------------


@pytest.fixture
def engine_bundle(bundle_copy, gpu):
    """A bundle with an engine of 64x96 px in batches of 1 to 2, for the simulated GPU."""
    profile = Profile((1, 64, 96), (1, 64, 96), (2, 64, 96))
    about = {"onnx_sha256": file_digest(bundle_copy / "model.onnx"), "max_depth": 10.0}
    gpu.engine(bundle_copy / "engines", (profile,), **about)
    return bundle_copy


def test_auto_takes_a_bundles_engines_and_falls_back_by_shape(engine_bundle, gpu, tiny_bundle, pixels):
    with DepthEstimator.load(engine_bundle) as estimator:
        assert estimator.runtime.backend == "tensorrt"
        assert estimator.runtime.why == "auto took tensorrt: a bundle has engines for this GPU"
        estimator.predict([grey(50, 64, 96)] * 5)  # batches of two, not of four
        sizes = [shape for _, shape in gpu.trt.called("IExecutionContext.set_input_shape")]
        assert sizes == [(2, 3, 64, 96), (1, 3, 64, 96)]
        other = pixels(1, 32, 64)
        raw = estimator.runtime.run(other)
        assert "a batch of 1x32x64 fits no engine and ran on" in estimator.runtime.why
    with DepthEstimator.load(tiny_bundle, "onnxruntime", device="cpu") as reference:
        np.testing.assert_allclose(raw, reference.runtime.run(other), rtol=0, atol=1e-4)
    assert not gpu.cuda.leaks()


def test_asked_for_by_name_other_shapes_are_refused(engine_bundle):
    with DepthEstimator.load(engine_bundle, "tensorrt", "auto", "cuda") as estimator:
        assert estimator(grey(50, 64, 96)).depth.shape == (64, 96)
        with refused(InputError, expected="64x96.b1-2", fix=("glpn-build", "--precision fp32")):
            estimator(grey(50, 96, 64))


def test_an_engine_as_the_source(engine_bundle, gpu, tmp_path):
    path = engine_bundle / "engines" / "test.engine"
    settings = json.loads((engine_bundle / "manifest.json").read_text())
    settings["preprocessing"]["size_divisor"] = 64
    (engine_bundle / "manifest.json").write_text(json.dumps(settings))
    GLPNImageProcessor(size_divisor=64).save_pretrained(engine_bundle)
    with DepthEstimator.load(path) as estimator:
        assert (estimator.runtime.precision, estimator.max_depth) == ("fp32", 10)
        assert estimator.processor.size_divisor == 64  # the bundle's
    alone = gpu.engine(tmp_path / "alone", max_depth=80.0, precision="fp16")
    with DepthEstimator.load(alone, precision="fp16") as estimator:
        assert (estimator.max_depth, estimator.processor.size_divisor) == (80, 32)
    with pytest.raises(UnavailableError) as caught:
        DepthEstimator.load(alone, precision="fp32")
    assert caught.value.expected == "one of fp16"
    with refused(InputError, got="backend 'openvino' for an engine", expected="auto or tensorrt"):
        DepthEstimator.load(alone, "openvino")
    with refused(BackendError, got="NVIDIA GPUs only"):
        DepthEstimator.load(alone, device="cpu")
    with refused(EngineError, got="there is no engine"):
        DepthEstimator.load(tmp_path / "none.engine")


def test_engines_that_do_not_fit_are_told_of(engine_bundle, gpu):
    gpu.device = dataclasses.replace(gpu.device, sm=(8, 6))
    with DepthEstimator.load(engine_bundle, threads=1) as estimator:
        assert estimator.runtime.backend in ("onnxruntime", "openvino")
        assert "tensorrt does not load it (test.engine was built for" in estimator.runtime.why
        assert f"glpn-build {engine_bundle}" in estimator.runtime.why
    with refused(EngineError, got="test.engine was built for", fix="build one here: glpn-build"):
        DepthEstimator.load(engine_bundle, "tensorrt")
    with DepthEstimator.load(engine_bundle, device="cpu") as estimator:
        assert "tensorrt" not in estimator.runtime.why
    shutil.rmtree(engine_bundle / "engines")
    with refused(EngineError, got="has no fp32 engine", fix="build one here: glpn-build"):
        DepthEstimator.load(engine_bundle, "tensorrt")


def test_a_bundle_without_engines_looks_no_further(tiny_bundle):
    program = (
        "import sys\nfrom glpn_deploy import DepthEstimator\n"
        f"DepthEstimator.load({str(tiny_bundle)!r}).close()\n"
        "gpu = {'tensorrt', 'glpn_deploy.runtimes.rt_tensorrt'}\n"
        "assert not gpu & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("options", "backend", "reason"),
    [
        ({"provider": "cuda"}, "openvino", "for the provider cuda"),
        ({"provider": "cuda", "device": "cpu"}, "auto", "provider cuda on device cpu"),
        ({"compile": "default"}, "onnxruntime", "for torch.compile"),
        ({"compile": "default"}, "auto", "the backend 'torch' does not run a bundle"),
    ],
)
def test_options_of_one_backend_are_refused_by_the_others(tiny_bundle, options, backend, reason):
    with pytest.raises(InputError, match=reason):
        DepthEstimator.load(tiny_bundle, backend, **options)


def test_a_provider_without_its_gpu_is_an_error_and_never_the_cpu(tiny_bundle):
    if rt_onnxruntime.missing_provider_reason("CUDAExecutionProvider") is None:
        pytest.skip("ONNX Runtime has CUDA here")
    with refused(UnavailableError, got="CUDA"):
        DepthEstimator.load(tiny_bundle, provider="cuda")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"max_side": 160}, (96, 160)),
        ({"input_size": (64, 128)}, (64, 128)),
        ({"max_side": 9999}, (192, 320)),
    ],
)
def test_a_large_photograph_is_shown_small_and_its_depth_has_its_own_size(options, shown, tiny_bundle):
    image = np.asarray(photograph("coffee").resize((320, 192)))
    small = image if shown == (192, 320) else np.asarray(Image.fromarray(image).resize(shown[::-1]))
    with (
        DepthEstimator.load(tiny_bundle, "onnxruntime", threads=1, device="cpu") as plain,
        DepthEstimator.load(tiny_bundle, "onnxruntime", threads=1, device="cpu", **options) as estimator,
    ):
        network = plain.runtime.run(plain.processor.prepare(small)[None])
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(network)[None], size=(192, 320), mode="bicubic", align_corners=False
        )[0, 0].numpy()
        assert network.shape[1:] == shown
        for found in (estimator(image), estimator.predict([image, image])[1]):
            assert found.depth.shape == (192, 320)
            np.testing.assert_allclose(found.depth, expected, atol=2e-5)
        with contextlib.closing(estimator.stream([image])) as stream:
            np.testing.assert_allclose(next(stream).depth_map.depth, expected, atol=2e-5)


@pytest.mark.parametrize(
    "options", [{"max_side": 31}, {"input_size": (31, 64)}, {"max_side": 64, "input_size": (64, 64)}]
)
def test_sizes_that_no_network_takes_are_refused(options, tiny_bundle):
    with pytest.raises(InputError):
        DepthEstimator.load(tiny_bundle, **options)


def test_a_photograph_that_does_not_fit_into_memory_is_refused_with_the_bytes(tiny_bundle, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 16_000_000_000)
    phone = np.zeros((3024, 4032, 3), np.uint8)
    with DepthEstimator.load(tiny_bundle, "onnxruntime", device="cpu") as estimator:
        monkeypatch.setattr(
            estimator.runtime, "run", lambda batch: np.ones((len(batch), *batch.shape[2:]), "f")
        )
        with pytest.raises(ImageError) as caught:
            estimator(phone)
        assert (
            "71.8 GB" in caught.value.got
        )  # two float32 matrices of 752 * 1008 rows, a 64th as many columns
        assert "16.0 GB" in caught.value.expected
        assert "--max-side" in caught.value.fix
        estimator.images = ImageOptions(max_side=1280)
        assert estimator(phone).depth.shape == (3024, 4032)


def test_large_images_at_the_same_time_wait_for_each_others_memory(tiny_bundle, monkeypatch):
    monkeypatch.setattr(memory, "attention_bytes", lambda *_: 10**9)
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 10**9)  # nobody has touched theirs yet
    running: list[int] = []
    most: list[int] = []

    def run(batch):
        running.append(1)
        time.sleep(0.05)
        most.append(len(running))
        running.pop()
        return np.ones((len(batch), *batch.shape[2:]), "f")

    options = {"device": "cpu", "mode": "throughput", "threads": 8}
    with DepthEstimator.load(tiny_bundle, "onnxruntime", **options) as estimator:
        monkeypatch.setattr(estimator.runtime, "run", run)
        found = list(estimator.stream([np.zeros((64, 64, 3), np.uint8)] * 12))
    assert [one.error for one in found] == [None] * 12
    assert max(most) == 3


def test_opencvs_order_of_channels(tiny_bundle):
    rgb = np.asarray(photograph("coffee").crop((0, 0, 128, 96)))
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    with (
        DepthEstimator.load(tiny_bundle, "onnxruntime", threads=1, device="cpu") as plain,
        DepthEstimator.load(tiny_bundle, "onnxruntime", threads=1, device="cpu", channels="bgr") as opencv,
    ):
        expected = plain(rgb).depth
        assert not np.allclose(plain(bgr).depth, expected, atol=1e-4)
        np.testing.assert_array_equal(opencv(bgr).depth, expected)
        np.testing.assert_array_equal(opencv(Image.fromarray(rgb)).depth, expected)  # which says its own
    with pytest.raises(InputError):
        DepthEstimator.load(tiny_bundle, channels="brg")
