"""The processor against its oracle: HF's PIL backend bit by bit, torch's bicubic within rounding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy.errors import ConfigError, ConfigFileError, ImageError, InputError
from glpn_deploy.images.processing import GLPNFeatureExtractor, GLPNImageProcessor, resize_bicubic
from tests.refusals import refused

try:
    from transformers.models.glpn.image_processing_pil_glpn import GLPNImageProcessorPil as HFProcessor
except ImportError:  # transformers 4: the only GLPN processor, and the same arithmetic
    from transformers.models.glpn.image_processing_glpn import GLPNImageProcessor as HFProcessor

PHOTOS = {
    "astronaut 512x512, fits": skimage.data.astronaut,
    "coffee 400x600": skimage.data.coffee,
    "chelsea 300x451": skimage.data.chelsea,
    "rocket 427x640": skimage.data.rocket,
}


def hf(images: Any, **kwargs: Any) -> NDArray[np.float32]:
    return HFProcessor(**kwargs)(images=images, return_tensors="np")["pixel_values"]


def ours(images: Any, processor: GLPNImageProcessor | None = None, **kwargs: Any) -> NDArray[Any]:
    return (processor or GLPNImageProcessor())(images, return_tensors="np", **kwargs)["pixel_values"]


def assert_bit_equal(got: NDArray[Any], expected: NDArray[Any]) -> None:
    assert got.dtype == expected.dtype == np.float32
    assert got.shape == expected.shape
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS.keys())
def test_photographs_bit_equal_to_hf(photo: Any) -> None:
    array = photo()
    for image in (array, Image.fromarray(array), np.ascontiguousarray(array.transpose(2, 0, 1))):
        assert_bit_equal(ours(image), hf(image))
        assert_bit_equal(np.stack(GLPNImageProcessor().preprocess([image]).pixel_values), hf([image]))


@settings(max_examples=40, deadline=None)
@given(st.integers(32, 140), st.integers(32, 140), st.integers(0, 2**32 - 1))
def test_any_size_bit_equal_to_hf(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    processor = GLPNImageProcessor()
    expected = hf(image)
    assert expected.shape[2:] == processor.target_size(height, width)
    assert_bit_equal(ours(image, processor), expected)
    prepared = processor.prepare(image)
    assert prepared.flags.c_contiguous
    assert_bit_equal(prepared[None], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"resample": 3},
        {"resample": 0},
        {"size_divisor": 64},
        {"do_resize": False},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 0.1},
    ],
)
def test_options_bit_equal_to_hf(options: dict[str, Any]) -> None:
    image = skimage.data.chelsea()
    if "rescale_factor" in options:  # transformers 4 takes it on the call only
        expected = HFProcessor()(images=image, return_tensors="np", **options)["pixel_values"]
    else:
        expected = hf(image, **options)
    assert_bit_equal(ours(image, GLPNImageProcessor(**options)), expected)
    assert_bit_equal(ours(image, **options), expected)


def test_bytes_that_are_not_rescaled_stay_bytes_as_in_hf() -> None:
    image = skimage.data.chelsea()
    got, expected = ours(image, do_rescale=False), hf(image, do_rescale=False)
    assert got.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("do_resize", [True, False])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_floats_that_are_not_rescaled_stay_floats(do_resize: bool, as_tensor: bool) -> None:
    """What comes after ``ToTensor()``: 0 to 1 stays 0 to 1."""
    image = (skimage.data.chelsea() / 255).astype(np.float32)
    given: Any = torch.from_numpy(image.transpose(2, 0, 1)) if as_tensor else image
    got = ours(given, do_rescale=False, do_resize=do_resize)
    assert_bit_equal(got, hf(given, do_rescale=False, do_resize=do_resize))
    if not do_resize:
        np.testing.assert_array_equal(got[0], image.transpose(2, 0, 1))


def test_whole_numbers_are_bytes_whatever_their_type() -> None:
    image = skimage.data.chelsea()
    for dtype in (np.int64, np.int32, np.float32, np.float64):
        assert_bit_equal(ours(image.astype(dtype)), hf(image.astype(dtype)))


def test_normalizing_bit_equal_to_hf() -> None:
    image = skimage.data.chelsea()
    for mean, std in (([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]), (0.5, 0.25)):
        options = {"do_normalize": True, "image_mean": mean, "image_std": std}
        assert_bit_equal(ours(image, **options), hf(image, **options))
        assert_bit_equal(ours(image, GLPNImageProcessor(**options)), hf(image, **options))
    with refused(ConfigError, got="image_mean"):
        ours(image, do_normalize=True)


def test_small_images_where_nothing_is_resized() -> None:
    image = skimage.data.chelsea()[:20, :24]
    assert_bit_equal(ours(image, do_resize=False), hf(image, do_resize=False))
    with pytest.raises(ImageError):
        ours(image)


def test_batches_bit_equal_to_hf() -> None:
    images = [skimage.data.coffee(), np.ascontiguousarray(skimage.data.coffee()[::-1])]
    expected = hf(images)
    for batch in (images, tuple(images), np.stack(images), torch.from_numpy(np.stack(images))):
        assert_bit_equal(ours(batch), expected)
    as_torch = GLPNImageProcessor()(images=images, return_tensors="pt")["pixel_values"]
    assert isinstance(as_torch, torch.Tensor)
    assert_bit_equal(as_torch.numpy(), expected)


def test_pil_image_keeps_its_orientation_as_in_hf_and_a_file_is_turned(tmp_path: Path) -> None:
    image = Image.fromarray(skimage.data.chelsea())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert_bit_equal(ours(opened), hf(opened))
    assert ours(tmp_path / "a.png").shape == (1, 3, 448, 288)


def test_sizes_that_do_not_agree_are_named() -> None:
    images = [np.zeros((480, 640, 3), np.uint8), np.zeros((375, 1242, 3), np.uint8)]
    with refused(InputError, got="352 x 1216, 480 x 640", fix="size by size"):
        GLPNImageProcessor()(images, return_tensors="np")
    apart = GLPNImageProcessor()(images).pixel_values
    assert [pixels.shape for pixels in apart] == [(3, 480, 640), (3, 352, 1216)]
    with refused(InputError, expected="at least one image"):
        GLPNImageProcessor()([])
    with pytest.raises(InputError) as caught:
        GLPNImageProcessor()(images[0], return_tensors="tf")
    assert "'tf'" in caught.value.got
    with pytest.raises(InputError) as caught:
        GLPNImageProcessor()(images[0], input_data_format="rows_first")
    assert caught.value.expected == "channels_first or channels_last"


def test_too_small_for_the_divisor() -> None:
    with refused(ImageError, expected="at least 64 px"):
        GLPNImageProcessor(size_divisor=64)(np.zeros((63, 500, 3), np.uint8))
    with refused(ImageError, got="500 px wide and 31 px high"):
        GLPNImageProcessor().target_size(31, 500)


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((3, 64, 64), np.uint8)]
)
def test_prepare_takes_rgb_bytes_only(image: NDArray[Any]) -> None:
    with refused(InputError, fix="load_image"):
        GLPNImageProcessor().prepare(image)


def test_transformers_loads_what_is_saved(tmp_path: Path) -> None:
    written = GLPNImageProcessor(size_divisor=64, resample=3)
    assert written.save_pretrained(tmp_path / "new") == [str(tmp_path / "new" / "preprocessor_config.json")]
    assert GLPNImageProcessor.from_pretrained(tmp_path / "new") == written
    image = skimage.data.coffee()
    expected = ours(image, written)
    for loader in (HFProcessor, transformers.AutoImageProcessor):
        read = loader.from_pretrained(tmp_path / "new")
        assert (read.size_divisor, read.resample, read.rescale_factor) == (64, 3, 1 / 255)
        assert_bit_equal(read(images=image, return_tensors="np")["pixel_values"], expected)


def test_reads_what_transformers_saves(tmp_path: Path) -> None:
    HFProcessor(size_divisor=64, resample=3).save_pretrained(tmp_path)
    assert GLPNImageProcessor.from_pretrained(tmp_path) == GLPNImageProcessor(size_divisor=64, resample=3)


@pytest.mark.parametrize(
    "kind", ["GLPNImageProcessor", "GLPNImageProcessorFast", "GLPNImageProcessorPil", "GLPNFeatureExtractor"]
)
def test_old_and_new_names_of_the_class(kind: str) -> None:
    old = {"do_resize": True, "do_rescale": True, "size_divisor": 32, "resample": 2, "do_normalize": None}
    for key in ("image_processor_type", "feature_extractor_type"):
        assert GLPNImageProcessor.from_dict({**old, key: kind}) == GLPNImageProcessor()
    assert GLPNImageProcessor.from_dict({}) == GLPNImageProcessor()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "a list"),
        ({"image_processor_type": "DPTImageProcessor"}, "DPTImageProcessor"),
        ({"feature_extractor_type": 3}, "feature_extractor_type = 3"),
        ({"do_normalize": 1}, "true or false"),
        ({"image_std": 0}, "other than 0"),
        ({"do_resize": "yes"}, "true or false"),
        ({"size_divisor": 0}, "at least 1"),
        ({"size_divisor": 32.5}, "32.5"),
        ({"size_divisor": True}, "True"),
        ({"resample": 9}, "0 to 5"),
        ({"resample": "bilinear"}, "bilinear"),
        ({"rescale_factor": -1}, "above 0"),
        ({"rescale_factor": float("nan")}, "nan"),
    ],
)
def test_nonsense_in_the_config(values: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GLPNImageProcessor.from_dict(values)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff", '{"size_divisor": "32"}', "[" * 100_000])
def test_config_file_that_is_damaged(text: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError):
        GLPNImageProcessor.from_pretrained(tmp_path)


def test_config_file_that_is_missing(tmp_path: Path) -> None:
    with refused(ConfigFileError, got=("no file ", "preprocessor_config.json")):
        GLPNImageProcessor.from_pretrained(tmp_path)


def test_saved_config_is_json_with_hfs_keys(tmp_path: Path) -> None:
    values = json.loads(Path(GLPNImageProcessor().save_pretrained(tmp_path)[0]).read_text())
    assert values == {
        "do_rescale": True,
        "do_resize": True,
        "image_processor_type": "GLPNImageProcessor",
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size_divisor": 32,
    }


def test_the_old_name_warns_and_works() -> None:
    with pytest.warns(FutureWarning, match="use GLPNImageProcessor") as caught:
        processor = GLPNFeatureExtractor(size_divisor=64)
    assert caught[0].filename == __file__
    image = skimage.data.chelsea()
    assert_bit_equal(ours(image, processor), hf(image, size_divisor=64))


def torch_bicubic(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    tensor = torch.from_numpy(depth)[None, None]
    return torch.nn.functional.interpolate(tensor, size=size, mode="bicubic", align_corners=False)[
        0, 0
    ].numpy()


side = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(side, side, side, side, st.integers(0, 2**32 - 1))
def test_bicubic_equals_torch(h_in: int, w_in: int, h_out: int, w_out: int, seed: int) -> None:
    depth = np.random.default_rng(seed).uniform(0.01, 10, (h_in, w_in)).astype(np.float32)
    got = resize_bicubic(depth, (h_out, w_out))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, torch_bicubic(depth, (h_out, w_out)), rtol=0, atol=1e-5 * depth.max())


@pytest.mark.parametrize(
    ("size_in", "size_out"),
    [
        ((480, 640), (481, 650)),
        ((352, 1216), (375, 1242)),
        ((480, 640), (1080, 1920)),
        ((480, 640), (60, 80)),
    ],
)
def test_bicubic_equals_torch_at_sizes_in_use(size_in: tuple[int, int], size_out: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).uniform(0.01, 80, size_in).astype(np.float32)
    got = resize_bicubic(depth, size_out)
    np.testing.assert_allclose(got, torch_bicubic(depth, size_out), rtol=0, atol=1e-5 * depth.max())


def test_bicubic_leaves_an_agreeing_size_alone() -> None:
    depth = np.ones((5, 7), np.float32)
    assert resize_bicubic(depth, (5, 7)) is depth


@pytest.mark.parametrize("size", [(0, 5), (5,), (5.5, 5), None, (5, 5, 5), (-1, 2)])
def test_bicubic_refuses_other_sizes(size: Any) -> None:
    with refused(InputError, got="size to resize to"):
        resize_bicubic(np.ones((5, 7), np.float32), size)
    with refused(InputError, got="shape"):
        resize_bicubic(np.ones((1, 5, 7), np.float32), (5, 7))


def test_post_processing_equals_hf() -> None:
    depth = np.random.default_rng(0).uniform(0, 10, (2, 64, 96)).astype(np.float32)
    sizes = [(70, 99), (64, 96)]
    expected = HFProcessor().post_process_depth_estimation(
        SimpleNamespace(predicted_depth=torch.from_numpy(depth)), target_sizes=sizes
    )
    processor = GLPNImageProcessor()
    for outputs in (depth, torch.from_numpy(depth), SimpleNamespace(predicted_depth=torch.from_numpy(depth))):
        got = processor.post_process_depth_estimation(outputs, target_sizes=sizes)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours["predicted_depth"], theirs["predicted_depth"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(
        [result["predicted_depth"] for result in processor.post_process_depth_estimation(depth)], depth
    )
    as_tensor = processor.post_process_depth_estimation(depth, torch.tensor(sizes))  # HF takes one too
    assert as_tensor[0]["predicted_depth"].shape == (70, 99)


def test_post_processing_refuses_what_does_not_fit() -> None:
    processor = GLPNImageProcessor()
    with refused(InputError, got="1 target sizes", expected="2"):
        processor.post_process_depth_estimation(np.ones((2, 8, 8)), target_sizes=[(9, 9)])
    with refused(InputError, got="shape (8, 8)"):
        processor.post_process_depth_estimation(np.ones((8, 8)))
    for size in ((0, 5), (5,), 5, None):
        if size is not None:
            with refused(InputError, got="size"):
                processor.post_process_depth_estimation(torch.ones((1, 8, 8)), target_sizes=[size])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_post_processing_gives_tensors_for_tensors_as_hf(dtype: torch.dtype) -> None:
    depth = torch.rand(2, 64, 96).to(dtype).requires_grad_()
    outputs, sizes = SimpleNamespace(predicted_depth=depth), [(70, 99), None]
    expected = HFProcessor().post_process_depth_estimation(outputs, target_sizes=sizes)
    got = GLPNImageProcessor().post_process_depth_estimation(outputs, target_sizes=sizes)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a["predicted_depth"], b["predicted_depth"])
        assert a["predicted_depth"].dtype == dtype
    got[0]["predicted_depth"].sum().backward()
    assert depth.grad is not None


def test_the_module_needs_numpy_and_pillow_only() -> None:
    code = (
        "import sys, glpn_deploy.images.processing, glpn_deploy.depth.depth_map;"
        "assert not {'torch', 'transformers', 'OpenEXR'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_channels_come_last_where_that_is_asked_for():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    first = GLPNImageProcessor()(image, return_tensors="np").pixel_values
    last = GLPNImageProcessor()(image, return_tensors="np", data_format="channels_last").pixel_values
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))
    with refused(InputError, got="data_format is 'columns'"):
        GLPNImageProcessor()(image, data_format="columns")
