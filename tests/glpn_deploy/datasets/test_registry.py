import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from glpn_deploy.datasets.folder import DepthFolder
from glpn_deploy.datasets.kitti import KittiEigen
from glpn_deploy.datasets.nyu import NyuDepthV2
from glpn_deploy.datasets.options import DatasetOptions
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.errors import DatasetError, InputError, MissingDependencyError
from glpn_deploy.optional import install_line
from tests.refusals import refused


@pytest.fixture
def root(tmp_path):
    (tmp_path / "test_list.txt").write_text("images/a.png depth/a.png\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "images/a.png")
    Image.fromarray(np.full((2, 4), 512, dtype=np.uint16)).save(tmp_path / "depth/a.png")
    return tmp_path


def test_every_kind_on_disk_opens_by_name(root):
    nyu = open_dataset("nyu", root)
    kitti = open_dataset("kitti", str(root), DatasetOptions(kb_crop=False, file_list=root / "test_list.txt"))
    folder = open_dataset("folder", root, DatasetOptions(depth_scale=128))
    assert isinstance(nyu, NyuDepthV2)
    assert isinstance(kitti, KittiEigen)
    assert isinstance(folder, DepthFolder)
    assert [float(data[0].depth[0, 0]) for data in (nyu, kitti, folder)] == pytest.approx([0.512, 2, 4])


def test_a_mat_file_opens_as_the_labelled_set(root):
    path = root / "labelled.mat"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 3, 8, 6), np.uint8)
        file["depths"] = file["rawDepths"] = np.ones((2, 8, 6), np.float32)
    (root / "test.txt").write_text("2\n")
    data = open_dataset("nyu", path, DatasetOptions(file_list=root / "test.txt", as_released=True))
    assert (len(data), data[0].name) == (1, "00002")
    with refused(InputError, got="the labelled .mat has no option split"):
        open_dataset("nyu", path, DatasetOptions(split="test"))


def test_rooms_are_rendered_without_a_path():
    assert len(open_dataset("rooms")) == 500
    rooms = open_dataset("rooms", None, DatasetOptions(split="val", count=3))
    assert (len(rooms), rooms.name, rooms.crop) == (3, "rooms", None)


def test_without_h5py_a_mat_file_gives_the_pip_line(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "glpn_deploy.datasets.nyu_mat", raising=False)
    with pytest.raises(MissingDependencyError) as missing:
        open_dataset("nyu", root / "labelled.mat")
    assert "h5py, which is not installed" in missing.value.got
    assert missing.value.fix == install_line("train")


def test_wrong_use_is_refused_before_anything_is_read(root):
    with refused(InputError, expected="one of nyu, kitti, folder, frames, rooms"):
        open_dataset("scannet", root)
    with refused(InputError, got="a nyu data set has no option depth_scale", expected="only file_list"):
        open_dataset("nyu", root, DatasetOptions(depth_scale=1000))
    with refused(InputError, expected="one of train, test"):
        open_dataset("kitti", root, DatasetOptions(split="val"))
    with refused(InputError, expected="rendered"):
        open_dataset("rooms", root)
    with refused(DatasetError, got="has no path"):
        open_dataset("nyu")
