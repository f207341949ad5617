"""A network that knows one size sees images at it; what was trained on one kind of image says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from glpn_deploy import DepthEstimator
from glpn_deploy.images.trained_size import reduced


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
    with DepthEstimator.load(bundle_copy, max_side=128) as estimator:
        assert estimator.origin.train_size == (96, 128)
        expected = estimator(image).depth
    with DepthEstimator.load(bundle_copy) as estimator:
        whole = estimator(image).depth
    assert np.abs(expected - whole).max() > 1e-3
    found = np.load(tmp_path / "depth" / "coffee.depth.npy")
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(np.load(tmp_path / "plain" / "coffee.depth.npy") - whole).max() < 1e-5


def test_reduced_keeps_the_shape_and_what_is_small() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    assert reduced(image, (96, 128), multiple=32).shape == (96, 128, 3)
    assert reduced(image, (96, 128)).shape == (91, 136, 3)
    assert reduced(image, (400, 600)) is image
    assert reduced(image, (1000, 1000)) is image
