import numpy as np
import pytest
from PIL import Image

from glpn_deploy.datasets.kitti import KittiEigen
from glpn_deploy.errors import DatasetError
from tests.refusals import refused

DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"
HEIGHT, WIDTH = 375, 1242


def write(root, name, height=HEIGHT, width=WIDTH):
    """A frame whose pixels say where they are: red row, green column, depth by place too."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows % 256, columns % 256, 0 * rows], axis=-1).astype(np.uint8)
    depth = (rows * 100 + columns).astype(np.uint16)
    for path, array in ((f"raw/{DRIVE}/{name}.png", image), (f"gt/{name}.png", depth)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / path, compress_level=1)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "0000000069")
    lines = [f"{DRIVE}/0000000069.png 0000000069.png 721.5377", f"{DRIVE}/0000000054.png None 721.5377"]
    (tmp_path / "eigen_test_files_with_gt.txt").write_text("\n".join(lines))
    return tmp_path


def open_bts(root, **options):
    lists = root / "eigen_test_files_with_gt.txt"
    return KittiEigen(root / "raw", lists, depth_root=root / "gt", **options)


def test_cuts_image_and_depth_to_the_benchmark_crop(root):
    data = open_bts(root)
    assert (len(data), data.without_depth, data.name, data.max_depth, data.crop) == (
        1,
        1,
        "kitti",
        80,
        "garg",
    )
    data.check()
    sample = data[0]
    top, left = 375 - 352, 13  # (1242 - 1216) / 2
    assert sample.image.shape == (352, 1216, 3)
    assert sample.image[0, 0].tolist() == [top, left, 0]
    assert sample.image[-1, -1].tolist() == [374 % 256, (left + 1215) % 256, 0]
    assert sample.depth.shape == (352, 1216)
    assert sample.depth[0, 0] == np.float32((top * 100 + left) / 256)


def test_odd_margins_are_cut_down(root):
    write(root, "0000000069", 370, 1225)
    assert open_bts(root)[0].image[0, 0].tolist() == [18, 4, 0]  # int((1225 - 1216) / 2)


def test_the_crop_can_be_left_out(root):
    assert open_bts(root, kb_crop=False)[0].depth.shape == (HEIGHT, WIDTH)


def test_finds_the_list_in_its_folder(root):
    (root / "train_list.txt").write_text(f"/raw/{DRIVE}/0000000069.png /gt/0000000069.png\n")
    data = KittiEigen(root, split="train")
    assert data[0].depth.shape == (352, 1216)
    assert data[0].name == f"raw/{DRIVE}/0000000069.png"


def test_an_image_below_the_crop_is_named_with_its_line(root):
    write(root, "0000000069", 256, 1242)
    with refused(DatasetError, got=("line 1:", "0000000069.png is 1242x256"), expected="1216x352"):
        open_bts(root)[0]


def test_a_list_without_any_ground_truth_is_refused(root):
    (root / "eigen_test_files_with_gt.txt").write_text("a.png None 721.5\n")
    with refused(DatasetError, got="has ground truth"):
        open_bts(root)
