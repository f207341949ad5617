"""A network that knows one size sees images at it; what was trained on one kind of image says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.checkpoints.card import read_card
from glpn_deploy.errors import InputError
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.images.resample import nearest_to


def test_predict_feeds_the_trained_size_and_says_so(run: Callable, bundle_copy: Path, tmp_path: Path) -> None:
    image = skimage.data.coffee()
    Image.fromarray(image).save(tmp_path / "coffee.png")
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    arguments = ["predict", bundle_copy, tmp_path / "coffee.png", "--save", "npy", "--out"]
    plain = run(*arguments, tmp_path / "plain")
    assert "trained on" not in plain.out
    manifest["source"] |= {"trained_on": "cellars", "train_size": [96, 128]}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    result = run(*arguments, tmp_path / "depth")
    assert result.status == 0, result.err
    assert "trained on cellars only: for photographs export vinvino02/glpn-nyu" in result.out
    with DepthEstimator.load(bundle_copy, input_size=(96, 128)) as estimator:
        assert estimator.origin.train_size == (96, 128)
        expected = estimator(image).depth
    with DepthEstimator.load(bundle_copy) as estimator:  # the library does as the command
        assert estimator.network_size(400, 600) == (96, 128)
        assert np.abs(estimator(image).depth - expected).max() < 1e-5
    with DepthEstimator.load(bundle_copy, input_size="own") as estimator:
        whole = estimator(image).depth
    assert np.abs(expected - whole).max() > 1e-3
    found = np.load(tmp_path / "depth" / "coffee.depth.npy")
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(np.load(tmp_path / "plain" / "coffee.depth.npy") - whole).max() < 1e-5

    as_json = run(*arguments, tmp_path / "json", "--json")
    origin = json.loads(as_json.out)["origin"]
    assert (origin["trained_on"], origin["train_size"]) == ("cellars", [96, 128])
    own = run(*arguments, tmp_path / "own", "--size", "own")
    assert own.status == 0
    assert np.abs(np.load(tmp_path / "own" / "coffee.depth.npy") - whole).max() < 1e-5


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (400, 600, (96, 128)),  # 90.5 x 135.8
        (600, 400, (128, 96)),
        (96, 128, (96, 128)),
        (48, 64, (96, 128)),  # smaller ones are enlarged
        (100, 2000, (32, 480)),  # 24.8 x 495.7
    ],
)
def test_the_nearest_size_keeps_the_shape(height: int, width: int, expected: tuple[int, int]) -> None:
    assert nearest_to((96, 128), height, width, 32) == expected


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_picture_far_from_the_trained_size_is_said_once(
    bundle_copy: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Of a network for any image, which sees them at their own size unless it is asked otherwise."""
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["source"] |= {"train_size": [96, 128]}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    large, near = np.zeros((256, 256, 3), np.uint8), np.zeros((128, 128, 3), np.uint8)
    with DepthEstimator.load(bundle_copy, "onnxruntime") as estimator:
        estimator(near)
        assert not [w for w in recwarn if "times the sides" in str(w.message)]
        estimator.predict([large, large])
        (told,) = [str(w.message) for w in recwarn if "times the sides" in str(w.message)]
        assert "2.3 times the sides that the network was trained at (96x128)" in told
        assert estimator.network_size(256, 256) == (256, 256)
    with DepthEstimator.load(bundle_copy, "onnxruntime", input_size="auto") as estimator:
        assert estimator.network_size(256, 256) == (96, 96)


def test_auto_without_a_trained_size_is_refused(run: Callable, tiny_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(skimage.data.coffee()).save(tmp_path / "coffee.png")
    result = run("predict", tiny_bundle, tmp_path / "coffee.png", "--size", "auto", "--out", tmp_path)
    assert result.status == 2
    assert "nothing says at which size this network was trained" in result.err
    with pytest.raises(InputError):
        ImageOptions(input_size="auto", max_side=64)


@pytest.mark.parametrize(("name", "size"), [("glpn-nyu", (480, 640)), ("glpn-kitti", (352, 1216))])
def test_the_authors_networks_are_known(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    for folder in (
        tmp_path / name,
        tmp_path / f"models--vinvino02--{name}" / "snapshots" / "0123456789abcdef",
    ):
        folder.mkdir(parents=True)
        assert read_card(folder).train_size == size
    assert read_card(tmp_path).train_size is None
