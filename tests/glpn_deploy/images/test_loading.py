"""Every kind of image becomes RGB uint8, and what cannot says so."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageOps

from glpn_deploy.errors import ImageError
from glpn_deploy.images import opening
from glpn_deploy.images.loading import shrink
from glpn_deploy.images.processing import load_image
from tests.refusals import refused


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[:96, 100:228])


def test_bytes_and_file_objects(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()

    class Unseekable(io.RawIOBase):  # as a pipe or an answer by HTTP
        def __init__(self) -> None:
            self.inner = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.inner.readinto(buffer)

    with (tmp_path / "a.png").open("rb") as file:
        for source in (
            content,
            bytearray(content),
            memoryview(content),
            io.BytesIO(content),
            file,
            Unseekable(),
        ):
            np.testing.assert_array_equal(load_image(source), photo)
        assert not file.closed


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_cut_data_is_an_image_error(photo: NDArray[np.uint8], kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, format=kind)
    for share in (0, 0.01, 0.1, 0.5):
        cut = stream.getvalue()[: int(len(stream.getvalue()) * share)]
        with pytest.raises(ImageError) as caught:
            load_image(cut)
        assert "image" in str(caught.value)


def test_rgb_arrives_unchanged_by_every_way(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(photo)
    image.save(tmp_path / "a.png")
    for source in (photo, image, tmp_path / "a.png", str(tmp_path / "a.png")):
        loaded = load_image(source)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, photo)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX", "RGBa", "PA"])
def test_modes_equal_pillows_own_conversion(mode: str, photo: NDArray[np.uint8]) -> None:
    image = Image.fromarray(photo)
    if mode in ("RGBA", "LA", "PA", "RGBa"):
        image.putalpha(Image.fromarray(photo[:, :, 1]))
        image = image.convert("RGBA")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    through = image.convert("RGBA") if mode in ("P", "PA", "RGBa") else image
    np.testing.assert_array_equal(load_image(image), np.asarray(through.convert("RGB")))


def test_alpha_is_dropped_not_blended() -> None:
    image = Image.new("RGBA", (40, 33), (10, 200, 30, 0))
    np.testing.assert_array_equal(np.unique(load_image(image).reshape(-1, 3), axis=0), [[10, 200, 30]])
    np.testing.assert_array_equal(load_image(np.asarray(image)), load_image(image))


def test_palette_with_transparency_gives_its_colours_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("P", (40, 33), 1)
    image.putpalette([0, 0, 0, 7, 8, 9])
    image.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.unique(loaded.reshape(-1, 3), axis=0), [[7, 8, 9]])


def test_sixteen_bits_are_divided_by_256(tmp_path: Path) -> None:
    deep = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * np.uint16(32)
    expected = np.stack([deep // 256] * 3, axis=2)
    Image.fromarray(deep).save(tmp_path / "a.png")
    big_endian = Image.frombytes("I;16B", (50, 40), deep.astype(">u2").tobytes())
    sources: list[Any] = [deep, deep.astype(">u2"), deep[:, :, None], tmp_path / "a.png", big_endian]
    sources += [Image.fromarray(deep), Image.fromarray(deep.astype(np.int32))]
    for source in sources:
        np.testing.assert_array_equal(load_image(source), expected)


def test_floats_from_0_to_1(photo: NDArray[np.uint8]) -> None:
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(load_image(photo.astype(dtype) / 255), photo)
    grey = photo[:, :, 0].astype(np.float32) / 255
    np.testing.assert_array_equal(load_image(Image.fromarray(grey))[:, :, 2], photo[:, :, 0])


def test_grey_and_bool_arrays(photo: NDArray[np.uint8]) -> None:
    grey = photo[:, :, 0]
    for source in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(load_image(source), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(load_image(grey > 99)[:, :, 1], (grey > 99) * np.uint8(255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(photo)
    exif = image.getexif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        image.save(tmp_path / name, exif=exif)
        with Image.open(tmp_path / name) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
        np.testing.assert_array_equal(load_image(tmp_path / name), expected)
        with Image.open(tmp_path / name) as opened:
            np.testing.assert_array_equal(load_image(opened), expected)
    assert expected.shape == ((128, 96, 3) if orientation >= 5 else (96, 128, 3))
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", orient=False), photo)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_truncated_files(form: str, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    Image.fromarray(photo).save(path, format=form)
    whole = path.read_bytes()
    assert load_image(path).shape == photo.shape
    path.write_bytes(whole[: len(whole) // 2])
    with refused(ImageError, got="a.img") as caught:
        load_image(path)
    assert caught.value.fix


def test_missing_file_folder_text_and_empty_file(tmp_path: Path) -> None:
    with refused(ImageError, got="there is no file"):
        load_image(tmp_path / "none.jpg")
    with refused(ImageError, fix="download it first"):
        load_image("https://example.org/a.jpg")
    with refused(ImageError, got="is a folder"):
        load_image(tmp_path)
    for content in (b"", b"this is no picture"):
        (tmp_path / "a.jpg").write_bytes(content)
        with refused(ImageError, got="not an image that Pillow can read"):
            load_image(tmp_path / "a.jpg")


def sixteen_bits(path: Path, values: NDArray[np.uint16]) -> Path:
    """A PNG of 16 bits a colour, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    return path


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
    bright = sixteen_bits(tmp_path / "bright.png", values)
    np.testing.assert_array_equal(load_image(bright), values >> 8)
    dark = sixteen_bits(tmp_path / "dark.png", values >> 4)  # a camera's 12 bits
    with pytest.warns(UserWarning, match=r"up to about 4095.*white_point=4095"):
        np.testing.assert_array_equal(load_image(dark), values >> 12)
    with refused(ImageError, got="Pillow reads the upper 8") as caught:
        load_image(dark, white_point=4095)
    assert "IMREAD_UNCHANGED" in caught.value.fix
    wanted = np.rint((values >> 4) / 4095 * 255)
    np.testing.assert_array_equal(load_image(values >> 4, white_point=4095), wanted)  # as the advice says


@pytest.mark.parametrize(
    ("source", "says", "named"),
    [
        ("clip.mp4", "is a video, not an image", "clip.mp4"),
        ("rtsp://camera.local/1", "is an address, not a file", "rtsp://camera.local/1"),
        ("camera:1", "is a source of frames", "camera:1"),
        ("0", "is the number 0", "camera:0"),
        (1, "is the number 1", "camera:1"),
    ],
)
def test_what_moves_is_no_image(source: str | int, says: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"some clip")
    for given in (source, str(tmp_path / source) if source == "clip.mp4" else source):
        with pytest.raises(ImageError) as caught:
            load_image(given)
        assert says in caught.value.got
        assert f"glpn-predict NETWORK {given if source == 'clip.mp4' else named}" in caught.value.fix
        assert "glpn_deploy.video.frames(" in caught.value.fix


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.jpg").write_bytes(b"")
    monkeypatch.setattr(Image, "open", refuse)
    with refused(ImageError, got="could not be read (Permission denied)"):
        load_image(tmp_path / "a.jpg")


def test_decompression_bomb_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (400, 300)).save(path)

    def decode(self: Image.Image) -> None:
        pytest.fail("the size must be checked before decoding")

    limit = Image.MAX_IMAGE_PIXELS
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr("PIL.PngImagePlugin.PngImageFile.load", decode)
        for max_pixels in (119_999, 50_000):  # Pillow's levels: a warning, an error
            with refused(ImageError, fix="max_pixels"):
                load_image(path, max_pixels=max_pixels)
        with Image.open(path) as opened, refused(ImageError, got="400 x 300"):
            load_image(opened, max_pixels=119_999)
    assert load_image(path, max_pixels=120_000).shape == (300, 400, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert load_image(path, max_pixels=120_000).shape == (300, 400, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.undo()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_real_bomb_at_the_default_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with refused(ImageError, got="too large"):
            load_image(path)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((0, 40, 3), np.uint8), "empty"),
        (np.full((40, 40), np.nan), "NaN"),
        (np.full((40, 40, 3), 200.5), "from 200.5 to 200.5"),
        (np.full((40, 40), -0.5, np.float32), "from -0.5"),
        (np.full((40, 40), 256, np.int64), "int64 values from 256 to 256"),
        (np.zeros((40, 40), np.complex64), "complex64"),
        (np.zeros((40, 40), object), "object"),
        (np.zeros(40, np.uint8), r"shape \(40,\)"),
        (np.zeros((1, 40, 40, 3), np.uint8), r"shape \(1, 40, 40, 3\)"),
        (np.zeros((40, 40, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((3, 40, 40), np.uint8), r"array\.transpose\(1, 2, 0\)"),
        (np.zeros((31, 500, 3), np.uint8), "500 px wide and 31 px high; expected at least 32 px"),
        (Image.new("RGB", (31, 500)), "31 px wide and 500 px high; expected at least 32 px"),
        (Image.new("RGB", (0, 5)), "at least 32"),
        (Image.fromarray(np.full((40, 40), 70_000, np.int32)), "70000"),
        (b"bytes", "not an image"),
        (12, "is the number 12"),
        (None, "is a NoneType"),
    ],
)
def test_unusable_images_say_why(array: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(array)


def test_a_postscript_file_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 64)).save(path, format="EPS")
    monkeypatch.setattr("subprocess.check_call", lambda *_: pytest.fail("Ghostscript was called"))
    with refused(ImageError, got="not an image"):
        load_image(path)


@pytest.mark.parametrize(
    ("size", "shrunk"),
    [((480, 640), (192, 256)), ((100, 200), (100, 200)), ((40, 4000), (32, 3200)), ((4000, 40), (3200, 32))],
)
def test_images_are_shrunk_as_far_as_the_shorter_side_allows(
    size: tuple[int, int], shrunk: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert shrink(image, 256, 32).shape == (*shrunk, 3)


def test_heic_of_a_phone(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = tmp_path / "IMG_1.HEIC"
    pillow_heif.from_pillow(Image.fromarray(photo)).save(file, quality=-1, chroma=444, matrix_coefficients=0)
    np.testing.assert_array_equal(load_image(file), photo)


def test_heic_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "readable_formats", lambda: ("PNG", "JPEG"))
    file = tmp_path / "IMG_1.HEIC"
    file.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError) as refused:
        load_image(file)
    assert "pillow-heif" in refused.value.got
    assert "heif" in refused.value.fix


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_16_bit_file(bits: int, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    grey = photo[:, :, 1].copy()
    grey[0, :2] = 0, 255
    white = 2**bits - 1
    deep = np.rint(grey.astype(np.float64) * white / 255).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "camera.png")
    for source in (deep, tmp_path / "camera.png"):
        with pytest.warns(UserWarning, match=rf"if it has {bits} bits, say --white-point {white}"):
            assert load_image(source).max() == white >> 8
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(load_image(source, white_point=white)[:, :, 0], grey)


def test_floats_up_to_255_in_a_tiff(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    grey = photo[:, :, 1].astype(np.float32) * np.float32(0.999)
    Image.fromarray(grey).save(tmp_path / "scan.tiff")
    with pytest.raises(ImageError) as refused:
        load_image(tmp_path / "scan.tiff")
    assert "--white-point 255" in refused.value.fix
    np.testing.assert_array_equal(load_image(tmp_path / "scan.tiff", white_point=255)[:, :, 0], np.rint(grey))
