import numpy as np
import pytest
from PIL import Image

from glpn_deploy.datasets.folder import DepthFolder
from glpn_deploy.errors import DatasetError
from tests.refusals import refused


@pytest.fixture
def root(tmp_path):
    """One pair with 16-bit depth in decimillimetres and one with metres in .npy."""
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    Image.new("RGB", (8, 6), (10, 20, 30)).save(tmp_path / "images/b.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "images/a.JPG")
    Image.fromarray(np.full((6, 8), 25000, dtype=np.uint16)).save(tmp_path / "depth/b.png")
    metres = np.full((6, 8), 3.25)
    metres[0, :4] = np.nan, np.inf, -1, 0
    np.save(tmp_path / "depth/a.npy", metres)
    return tmp_path


def test_pairs_go_together_by_name(root):
    (root / "images/notes.txt").write_text("not an image")
    data = DepthFolder(root, depth_scale=10000)
    assert (len(data), data.name, data.max_depth, data.crop) == (2, "folder", 10.0, None)
    data.check()
    assert [sample.name for sample in data] == ["a.JPG", "b.png"]
    assert (data[1].depth == 2.5).all()
    assert (data[1].image == [10, 20, 30]).all()
    assert data[0].depth.dtype == np.float32
    assert data[0].depth[0].tolist() == [0, 0, 0, 0, 3.25, 3.25, 3.25, 3.25]


def test_a_png_needs_its_scale_stated_and_npy_does_not(root):
    with refused(DatasetError, got=("unit of", "b.png is not known"), fix="1000 for millimetres"):
        DepthFolder(root)
    (root / "images/b.png").unlink()
    (root / "depth/b.png").unlink()
    assert DepthFolder(root)[0].depth[1, 1] == 3.25
    for scale in (0, -1, float("nan"), float("inf")):
        with refused(DatasetError, got="depth scale"):
            DepthFolder(root, depth_scale=scale)


@pytest.mark.parametrize(("gone", "message"), [("images/b.png", "no image"), ("depth/a.npy", "no depth")])
def test_a_file_without_a_partner_is_named(root, gone, message):
    (root / gone).unlink()
    with pytest.raises(DatasetError, match=message):
        DepthFolder(root, depth_scale=1000)


def test_two_files_of_one_name_are_refused(root):
    Image.new("RGB", (8, 6)).save(root / "images/b.jpg")
    with refused(DatasetError, got=("b.jpg and", "b.png have the same name")):
        DepthFolder(root, depth_scale=1000)


def test_missing_and_empty_folders_are_named(tmp_path):
    with refused(DatasetError, got=("no folder", "images")):
        DepthFolder(tmp_path)
    (tmp_path / "images").mkdir()
    with refused(DatasetError, got="images is empty"):
        DepthFolder(tmp_path)


@pytest.mark.parametrize(
    "depth",
    [
        np.ones((6, 8), np.uint16),
        np.ones((6, 8, 1)),
        np.array([[{}]], dtype=object),
        np.ones((6, 8), complex),
    ],
)
def test_an_npy_that_is_no_depth_map_is_named(root, depth):
    np.save(root / "depth/a.npy", depth)
    with refused(DatasetError, got="a.npy"):
        DepthFolder(root, depth_scale=1000)[0]


def test_truncated_and_mismatched_npy_are_named(root):
    path = root / "depth/a.npy"
    content = path.read_bytes()
    for keep in (0, 20, len(content) - 8):
        path.write_bytes(content[:keep])
        with refused(DatasetError, got="a.npy cannot be read"):
            DepthFolder(root, depth_scale=1000)[0]
    np.save(path, np.ones((6, 9)))
    with refused(DatasetError, got=("a.JPG is 8x6 and", "a.npy is 9x6")):
        DepthFolder(root, depth_scale=1000)[0]


@pytest.mark.parametrize(("kind", "units"), [("mm", 1000), ("kitti", 256)])
def test_what_predict_writes_is_read_back(kind, units, root):
    (root / "depth/b.png").unlink()
    (root / "depth/a.npy").rename(root / "depth/a.depth.npy")
    stored = np.full((6, 8), 2.5 * units, dtype=np.uint16)
    Image.fromarray(stored).save(root / f"depth/b.depth_{kind}.png")
    data = DepthFolder(root)
    assert [sample.name for sample in data] == ["a.JPG", "b.png"]
    assert (data[1].depth == 2.5).all()
    assert data[0].depth[1, 1] == 3.25
