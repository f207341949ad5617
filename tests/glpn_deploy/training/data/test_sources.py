"""What `glpn-train` trains and validates on, by the kind of data set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from glpn_deploy.errors import DatasetError
from glpn_deploy.training.data.sources import crop_size, open_data
from tests.refusals import refused


def write_pair(folder, number: int, height: int = 48, width: int = 64) -> str:
    """An image and its depth of ``number`` metres; the line that a list of NYU names them with."""
    folder.mkdir(exist_ok=True)
    image, depth = folder / f"rgb_{number:05}.jpg", folder / f"sync_depth_{number:05}.png"
    Image.new("RGB", (width, height), (40, 40, 90)).save(image)
    Image.fromarray(np.full((height, width), 1000 * number, np.uint16)).save(depth)
    return f"/{image.relative_to(folder.parent)} /{depth.relative_to(folder.parent)} 518.8579"


def test_nyu_is_trained_on_one_list_and_validated_on_the_other(options, tmp_path):
    lines = [write_pair(tmp_path / "bathroom", number) for number in (1, 2, 3)]
    (tmp_path / "train_list.txt").write_text("\n".join(lines[:2]))
    (tmp_path / "test_list.txt").write_text(lines[2])
    asked = options(dataset="nyu", path=tmp_path, cache=None)
    train, val = open_data(asked)
    assert [float(train[index].depth.max()) for index in range(len(train))] == [1, 2]
    assert (len(val), float(val[0].depth.max())) == (1, 3)
    assert crop_size(asked, train) == (448, 576)  # the paper's
    other = options(dataset="nyu", path=tmp_path, cache=None, train_list=tmp_path / "test_list.txt")
    assert open_data(other)[0][0].name == "bathroom/rgb_00003.jpg"


def test_a_folder_may_be_validated_on_another_one(options, tmp_path):
    for name, count in (("train", 3), ("val", 1)):
        for kind in ("images", "depth"):
            (tmp_path / name / kind).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (50, 40)).save(tmp_path / name / "images" / f"{number}.png")
            depth = Image.fromarray(np.full((40, 50), 1000, np.uint16))
            depth.save(tmp_path / name / "depth" / f"{number}.png")
    about = {"dataset": "folder", "path": tmp_path / "train", "cache": None, "depth_scale": 1000.0}
    train, val = open_data(options(**about, val_path=tmp_path / "val"))
    assert (len(train), len(val)) == (3, 1)
    assert crop_size(options(**about), train) == (32, 32)  # what the first image has of whole 32 px


def test_images_below_32_px_are_refused_by_name(options, tmp_path):
    for kind, mode in (("images", "RGB"), ("depth", "I;16")):
        (tmp_path / kind).mkdir()
        for number in range(2):
            Image.new(mode, (64, 20), 1000 if mode == "I;16" else 0).save(tmp_path / kind / f"{number}.png")
    asked = options(dataset="folder", path=tmp_path, cache=None, depth_scale=1000.0)
    with refused(DatasetError, got="1.png is 64x20", expected="32x32"):
        crop_size(asked, open_data(asked)[0])


@pytest.mark.parametrize("shrink", [1, 2])
def test_rooms_need_no_cache(options, shrink):
    cached, _ = open_data(options(size=(64, 64), shrink=shrink))
    rendered, _ = open_data(options(size=(64, 64), shrink=shrink, cache=None))
    np.testing.assert_array_equal(cached[1].image, rendered[1].image)
    np.testing.assert_allclose(cached[1].depth, rendered[1].depth, rtol=1e-3)  # FP16 in the cache
