import re

import numpy as np
import pytest
from PIL import Image

from glpn_deploy.datasets.nyu import NyuDepthV2
from glpn_deploy.errors import DatasetError
from tests.refusals import refused


@pytest.fixture
def root(tmp_path):
    """Two samples as GLPDepth lays them out: JPEG images, PNG depth in millimetres, list with leading "/"."""
    (tmp_path / "bathroom").mkdir()
    for number, grey in ((45, 40), (46, 200)):
        Image.new("RGB", (64, 48), (grey, grey, 90)).save(tmp_path / f"bathroom/rgb_{number:05d}.jpg")
        millimetres = np.full((48, 64), 1500 + number, dtype=np.uint16)
        millimetres[0, :] = 0
        Image.fromarray(millimetres).save(tmp_path / f"bathroom/sync_depth_{number:05d}.png")
    lines = [f"/bathroom/rgb_{n:05d}.jpg /bathroom/sync_depth_{n:05d}.png 518.8579" for n in (45, 46)]
    (tmp_path / "test_list.txt").write_text("\n\n".join(lines) + "\n")
    return tmp_path


def test_reads_millimetres_as_metres(root):
    data = NyuDepthV2(root)
    assert (len(data), data.name, data.max_depth, data.crop) == (2, "nyu", 10.0, "nyu")
    data.check()
    sample = data[1]
    assert sample.name == "bathroom/rgb_00046.jpg"
    assert sample.image.shape == (48, 64, 3)
    assert sample.image.dtype == np.uint8
    assert abs(int(sample.image[20, 20, 0]) - 200) <= 2  # JPEG
    assert abs(int(sample.image[20, 20, 2]) - 90) <= 4
    assert sample.depth.dtype == np.float32
    assert sample.depth[1, 0] == np.float32(1.546)
    assert not sample.depth[0].any()
    sample.image[0, 0] = 7  # augmentations write into samples
    assert [s.name for s in data] == ["bathroom/rgb_00045.jpg", "bathroom/rgb_00046.jpg"]


def test_takes_bts_list_names_and_a_list_given_by_hand(root):
    bts = root / "nyudepthv2_train_files_with_gt.txt"
    bts.write_text("bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png 518.8579\n")
    assert len(NyuDepthV2(root, split="train")) == 1
    other = root / "mine.txt"
    other.write_text("bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png\n")
    assert len(NyuDepthV2(root, other)) == 1


def test_without_a_list_it_says_which_names_it_looks_for(tmp_path):
    with refused(DatasetError, expected="test_list.txt or nyudepthv2_test_files_with_gt.txt"):
        NyuDepthV2(tmp_path)
    with refused(DatasetError, got="no folder"):
        NyuDepthV2(tmp_path / "absent")
    with refused(DatasetError, got=("no file", "absent.txt")):
        NyuDepthV2(tmp_path, tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("only_one_field", "line 3 has 1 fields"),
        ("a b 518.8 more", "line 3 has 4 fields"),
        ("a b focal", "line 3: the focal length is 'focal'"),
    ],
)
def test_a_bad_line_is_named(root, line, message):
    good = "/bathroom/rgb_00045.jpg /bathroom/sync_depth_00045.png"
    (root / "test_list.txt").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(DatasetError, match=re.escape("test_list.txt, ") + message):
        NyuDepthV2(root)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00binary"])
def test_a_list_without_lines_or_text_is_refused(root, content):
    (root / "test_list.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=r"test_list\.txt is (empty|not readable text)"):
        NyuDepthV2(root)


@pytest.mark.parametrize("name", ["rgb_00046.jpg", "sync_depth_00046.png"])
def test_a_missing_file_is_named_with_its_line(root, name):
    (root / "bathroom" / name).unlink()
    data = NyuDepthV2(root)  # nothing is touched yet
    assert data[0].depth.any()
    for look in (lambda: data[1], data.check):
        with refused(DatasetError, got=("test_list.txt, line 3: there is no", name)):
            look()


def test_check_counts_the_missing_files(root):
    for path in (root / "bathroom").iterdir():
        path.unlink()
    with refused(DatasetError, got=("line 1:", "rgb_00045.jpg (and 3 more files)")):
        NyuDepthV2(root).check()


@pytest.mark.parametrize("name", ["rgb_00046.jpg", "sync_depth_00046.png"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.8])
def test_a_truncated_file_is_named_with_its_line(root, name, keep):
    path = root / "bathroom" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with refused(DatasetError, got=("test_list.txt, line 3: the", f"{name} cannot be read")):
        NyuDepthV2(root)[1]


def test_a_damaged_png_is_named(root):
    path = root / "bathroom/sync_depth_00046.png"
    content = bytearray(path.read_bytes())
    content[50:60] = b"\x00" * 10
    path.write_bytes(bytes(content))
    with refused(DatasetError, got=("line 3: the depth", "sync_depth_00046.png cannot be read")):
        NyuDepthV2(root)[1]


def test_sizes_that_differ_are_named(root):
    Image.new("RGB", (32, 48)).save(root / "bathroom/rgb_00046.jpg")
    with refused(DatasetError, got=("line 3:", "rgb_00046.jpg is 32x48 and", "00046.png is 64x48")):
        NyuDepthV2(root)[1]


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_depth_that_is_not_16_bit_is_refused(root, mode):
    Image.new(mode, (64, 48)).save(root / "bathroom/sync_depth_00046.png")
    with refused(DatasetError, got=("line 3: the depth", f" has mode {mode}"), expected="a 16-bit PNG"):
        NyuDepthV2(root)[1]


def test_image_and_depth_swapped_is_noticed(root):
    (root / "test_list.txt").write_text("/bathroom/sync_depth_00045.png /bathroom/rgb_00045.jpg\n")
    with refused(DatasetError, got=("line 1: the image", "has mode I;16"), fix="swapped"):
        NyuDepthV2(root)[0]


def test_grey_and_transparent_images_become_rgb(root):
    Image.new("LA", (64, 48), (77, 128)).save(root / "bathroom/grey.png")
    (root / "test_list.txt").write_text("/bathroom/grey.png /bathroom/sync_depth_00045.png\n")
    assert (NyuDepthV2(root)[0].image == 77).all()
