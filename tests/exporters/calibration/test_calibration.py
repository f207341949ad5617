"""Ranges against onnxruntime's own, and what is refused before the long work."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnxruntime.quantization.calibrate import MinMaxCalibrater
from PIL import Image

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.errors import ExportError, ImageError, InputError
from glpn_deploy.exporters.calibration import calibration as module
from glpn_deploy.exporters.calibration.calibration import (
    calibrate,
    calibration_images,
    random_images,
    require_memory,
)
from glpn_deploy.exporters.graph.tensor_sizes import tensor_elements
from glpn_deploy.exporters.options import CalibrationOptions
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()
pytestmark = pytest.mark.filterwarnings("ignore:There are .* calibration images")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Three pictures of different sizes, one of them not a multiple of 32."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((64, 96), (96, 64), (70, 75))]


@pytest.fixture(scope="module")
def tensors(tiny_onnx) -> list[str]:
    return int8_tensors(tiny_onnx)


def fetch(path, name, image):
    """One inner tensor, by a session of its own."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": PROCESSOR.prepare(image)[None]})[0]


def test_minmax_is_that_of_onnxruntimes_calibrater(tiny_onnx, images, tensors, tmp_path):
    found = calibrate(tiny_onnx, images, PROCESSOR, tensors, CalibrationOptions("minmax"))
    theirs = MinMaxCalibrater(
        str(tiny_onnx), ["Conv", "MatMul"], augmented_model_path=str(tmp_path / "augmented.onnx")
    )
    theirs.augment_graph()
    theirs.create_inference_session()
    for image in images:
        theirs.collect_data(Reader(image))
    ranges = theirs.compute_data()
    assert set(found.limits) == set(tensors)
    for name, (low, high) in found.limits.items():
        expected = ranges[name].range_value
        assert low == pytest.approx(min(float(expected[0].min()), 0), rel=1e-5, abs=1e-6)
        assert high == pytest.approx(max(float(expected[1].max()), 0), rel=1e-5, abs=1e-6)


class Reader:
    """One image, as onnxruntime.quantization wants it."""

    def __init__(self, image):
        self.feeds = [{"pixel_values": PROCESSOR.prepare(image)[None]}]

    def get_next(self):
        return self.feeds.pop() if self.feeds else None


def test_percentile_over_images_is_that_of_all_their_values(tiny_onnx, images, tensors):
    name = tensors[len(tensors) // 2]
    found = calibrate(tiny_onnx, images, PROCESSOR, [name], CalibrationOptions("percentile", percentile=98))
    values = np.concatenate([fetch(tiny_onnx, name, image).ravel() for image in images])
    exact = np.percentile(np.abs(values), 98, method="inverted_cdf")
    assert found.limits[name][1] == pytest.approx(min(exact, values.max()), rel=2e-3)
    assert found.limits[name][0] == pytest.approx(max(-exact, values.min()), rel=2e-3)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_limits_hold_zero_and_stay_within_what_was_seen(tiny_onnx, images, tensors, method):
    seen = calibrate(tiny_onnx, images, PROCESSOR, tensors, CalibrationOptions("minmax"))
    found = calibrate(tiny_onnx, images, PROCESSOR, tensors, CalibrationOptions(method))
    assert found.method == method
    assert found.images == 3
    for name, (low, high) in found.limits.items():
        assert seen.limits[name][0] <= low <= 0 <= high <= seen.limits[name][1]
        assert low < high


def test_few_tensors_at_a_time_give_the_same(tiny_onnx, images, tensors, monkeypatch):
    options = CalibrationOptions("percentile")
    at_once = calibrate(tiny_onnx, images, PROCESSOR, tensors, options)
    monkeypatch.setattr(module, "MAX_HELD", 30_000)
    in_parts = calibrate(tiny_onnx, images, PROCESSOR, tensors, options)
    assert in_parts.digest == at_once.digest
    for name, limits in at_once.limits.items():
        assert in_parts.limits[name] == pytest.approx(limits, rel=1e-5)


def test_the_digest_is_of_images_and_options(tiny_onnx, images, tmp_path):
    def digest(pictures, options=CalibrationOptions(), processor=PROCESSOR):
        return calibrate(tiny_onnx, pictures, processor, ["pixel_values"], options).digest

    first = digest(images)
    assert first == digest(images)
    changed = [image.copy() for image in images]
    changed[1][0, 0, 0] ^= 1
    others = [
        digest(changed),
        digest(images[::-1]),
        digest(images, CalibrationOptions("percentile")),
        digest(images, processor=GLPNImageProcessor(resample=3)),
    ]
    assert len({first, *others}) == 5
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    assert digest(paths) == first


def test_images_go_through_the_processor(tiny_onnx, images):
    dark = GLPNImageProcessor(rescale_factor=1 / 510)
    found = calibrate(tiny_onnx, images, dark, ["pixel_values"])
    assert found.limits["pixel_values"] == pytest.approx((0, 0.5))


def test_sizes_of_tensors_are_those_of_a_run(tiny_onnx, images, tensors):
    sizes = tensor_elements(onnx.load(tiny_onnx), (1, 3, 64, 96))
    for name in [*tensors[1::6], "predicted_depth"]:
        assert sizes[name] == fetch(tiny_onnx, name, images[0]).size


# Refusals ---------------------------------------------------------------------------------------------


def test_too_little_memory_is_said_before_the_run(tiny_onnx, images, tensors, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    with refused(ExportError, got=("at 96x64 px takes about", "GB of memory"), fix="smaller"):
        calibrate(tiny_onnx, images, PROCESSOR, tensors)


def test_memory_for_the_largest_image_is_asked_for_without_a_run(tiny_onnx, images, monkeypatch):
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: pytest.fail("it was run"))
    require_memory(tiny_onnx, images, PROCESSOR)
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    with refused(ExportError, got="calibrating at 96x64 px takes about"):
        require_memory(tiny_onnx, images, PROCESSOR)  # not at 64x96, or at the 64x64 that 75x70 becomes


def test_a_quantised_or_typed_graph(tiny_onnx, images, tensors, tmp_path):
    ranges = calibrate(tiny_onnx, images, PROCESSOR, tensors)
    for path in (
        to_int8(tiny_onnx, tmp_path / "int8.onnx", ranges),
        to_half(tiny_onnx, tmp_path / "fp16.onnx"),
    ):
        with refused(ExportError, got="already", fix="model.onnx"):
            calibrate(path, images, PROCESSOR, tensors)


def test_a_tensor_that_is_not_there(tiny_onnx, images):
    with refused(ExportError, got="no tensor nowhere"):
        calibrate(tiny_onnx, images, PROCESSOR, ["nowhere"])


def test_a_network_that_gives_nan(tiny_onnx, images, tensors, tmp_path):
    model = onnx.load(tiny_onnx)
    bias = next(t for t in model.graph.initializer if t.name.endswith("patch_embeddings.0.proj.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.nan, bias.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with refused(ExportError, got=("NaN or infinite values at", "calibration image 1")):
        calibrate(tmp_path / "nan.onnx", images, PROCESSOR, tensors)


@pytest.mark.parametrize("count", [0, 1])
def test_none_or_a_single_image(tiny_onnx, images, count):
    with refused(InputError, expected="at least 2", fix="give 16 or more"):
        calibrate(tiny_onnx, images[:count], PROCESSOR, ["pixel_values"])


@pytest.mark.filterwarnings("default")
def test_few_images_are_warned_of(tiny_onnx, images):
    with pytest.warns(UserWarning, match=r"There are 3 calibration images.*Give 16 or more"):
        calibrate(tiny_onnx, images, PROCESSOR, ["pixel_values"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(tiny_onnx, images[:1] * 16, PROCESSOR, ["pixel_values"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mean"}, "one of minmax, percentile"),
        ({"percentile": 50}, "above 50"),
        ({"percentile": 100.1}, "at most 100"),
        ({"max_images": 1}, "at least 2"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        CalibrationOptions(**options)


# Folders ----------------------------------------------------------------------------------------------


def picture(path, width=64, height=64, grey=128):
    Image.new("RGB", (width, height), (grey, grey, grey)).save(path)
    return path


def test_a_folder_is_sampled_evenly_and_its_images_shrunk(tmp_path):
    for i in range(20):
        picture(tmp_path / f"{i:02}.png", grey=i)

    def seen(limit):
        return [int(image[0, 0, 0]) for image in calibration_images(tmp_path, PROCESSOR, limit, 640)]

    assert seen(64) == list(range(20))
    assert seen(5) == list(range(0, 20, 4))
    picture(tmp_path / "00.png", 128, 64)
    assert calibration_images(tmp_path, PROCESSOR, 1, 64)[0].shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: folder / "nowhere", InputError, "does not exist"),
        (lambda folder: picture(folder / "a.png"), InputError, r"a\.png is a file"),
        (lambda folder: folder, InputError, r"no images.*sub-folders are not searched.*give a folder of 16"),
        (
            lambda folder: picture(picture(folder / "a.png", 31).with_name("b.png")).parent,
            ImageError,
            r"a\.png.*31",
        ),
    ],
    ids=["missing", "file", "empty", "small"],
)
def test_folders_that_cannot_be_used(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        calibration_images(make(tmp_path), PROCESSOR, 16, 640)


def test_a_damaged_image_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    with refused(ImageError, got="b.jpg"):
        calibration_images(tmp_path, PROCESSOR, 16, 640)


def test_an_image_too_small_for_the_processor_is_named(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png", 64, 40)
    with refused(ImageError, got=("a.png", "64 px")):
        calibration_images(tmp_path, GLPNImageProcessor(size_divisor=64), 16, 640)


def test_noise_is_the_same_every_time():
    first, second = random_images(2, 40, 64, seed=5)
    assert first.shape == (40, 64, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(random_images(1, 40, 64, seed=5)[0], first)
