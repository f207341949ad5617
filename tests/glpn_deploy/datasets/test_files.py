import numpy as np
import pytest
from PIL import Image

from glpn_deploy.datasets.base import Pair, PairDataset
from glpn_deploy.datasets.files import read_depth, read_image
from glpn_deploy.errors import DatasetError
from tests.refusals import refused


def read_or_refuse(read, path):
    """What was read, or ``None`` where the file was refused by its name."""
    try:
        return read(path)
    except DatasetError as error:
        if path.name not in str(error):
            raise
        return None


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_no_cut_changes_an_image_unnoticed(tmp_path, ending):
    path, rng = tmp_path / f"image.{ending}", np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
    whole, content = read_image(path), path.read_bytes()
    for length in range(0, len(content), 11):
        path.write_bytes(content[:length])
        got = read_or_refuse(read_image, path)
        assert got is None or np.array_equal(got, whole)


def test_no_cut_or_flipped_bit_changes_depth_unnoticed(tmp_path):
    path, rng = tmp_path / "depth.png", np.random.default_rng(0)
    millimetres = rng.integers(1, 65536, (24, 32)).astype(np.uint16)
    Image.fromarray(millimetres).save(path)
    content = path.read_bytes()
    flipped = [bytearray(content) for _ in range(100)]
    for copy in flipped:
        copy[rng.integers(len(copy))] ^= 1 << rng.integers(8)
    for damaged in [content[:length] for length in range(0, len(content), 11)] + flipped:
        path.write_bytes(damaged)
        got = read_or_refuse(lambda file: read_depth(file, 1000), path)
        assert got is None or np.array_equal(got, millimetres.astype(np.float32) / np.float32(1000))


def test_depth_keeps_all_sixteen_bits(tmp_path):
    values = np.array([[0, 1, 255, 256], [32767, 32768, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "depth.png")
    np.testing.assert_allclose(read_depth(tmp_path / "depth.png", 256), values / 256, rtol=1e-7)


def test_a_png_without_a_scale_and_a_folder_in_its_place_are_refused(tmp_path):
    with refused(DatasetError, got=("list, line 4: the unit of", "a.png is not known")):
        read_depth(tmp_path / "a.png", None, "list, line 4")
    with refused(DatasetError, got="cannot be read"):
        read_image(tmp_path)


def test_an_archive_is_not_a_depth_map(tmp_path):
    np.savez(tmp_path / "depth.npz", depth=np.ones((2, 2)))
    (tmp_path / "depth.npz").rename(tmp_path / "depth.npy")
    with refused(DatasetError, got="depth.npy cannot be read (no plain .npy file"):
        read_depth(tmp_path / "depth.npy", None)


@pytest.mark.parametrize("kind", ["AVIF", "DDS", "WEBP"])
def test_damage_of_any_format_names_the_file(kind, tmp_path):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64), (9, 99, 199)).save(path, format=kind)
    content = path.read_bytes()
    for end in (len(content) // 2, len(content) - 20):
        path.write_bytes(content[:end] + b"\xff" * (end % 7))
        try:
            read_image(path)
        except DatasetError as error:
            assert "a.jpg" in error.got  # noqa: PT017 - some of it is read all the same


def test_names_that_no_file_has(tmp_path):
    for name in ("x" * 300 + ".png", "a\0b.png"):
        with pytest.raises(DatasetError):
            read_image(tmp_path / name)
        pairs = [Pair(tmp_path / name, tmp_path / name, "a")]
        with refused(DatasetError, got="there is no file"):
            PairDataset(pairs).check()
