"""Steadiness beside accuracy, for the frames of a clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.accuracy.evaluation import evaluate
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.video.steadiness import ScaleSteadier


class Flickering(NullRuntime):
    """2 m, and 2.2 m in every other image."""

    images = 0

    def _infer(self, pixel_values):
        numbers = self.images + np.arange(len(pixel_values))
        self.images += len(pixel_values)
        depth = np.where(numbers % 2, 2.2, 2.0).astype(np.float32)
        return np.broadcast_to(depth[:, None, None], (len(depth), *pixel_values.shape[2:])).copy()


@pytest.fixture
def clip(tmp_path):
    """Ten frames of a wall at 2.1 m."""
    for kind in ("images", "depth"):
        (tmp_path / kind).mkdir()
    for index in range(10):
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "images" / f"{index:03d}.png")
        np.save(tmp_path / "depth" / f"{index:03d}.npy", np.full((64, 64), 2.1, np.float32))
    return tmp_path


def test_flicker_of_network_truth_and_steadied_depth(clip):
    estimator = DepthEstimator(Flickering(), GLPNImageProcessor(), 10.0)
    report = evaluate(estimator, open_dataset("frames", clip))
    found = report.to_dict()["steadiness"]
    assert report.dataset["name"] == "frames"
    assert found["network"]["scale_jump"] == pytest.approx(math.log(1.1), rel=1e-5)
    assert found["network"]["pairs"] == 9
    assert found["ground_truth"]["scale_jump"] == 0
    assert found["steady"]["scale_jump"] < 0.4 * found["network"]["scale_jump"]
    steadier, expected = ScaleSteadier(), []
    for index in range(10):
        depth = steadier(np.full((64, 64), 2.2 if index % 2 else 2.0, np.float32), index / 30)
        expected.append(np.mean(np.abs(depth - 2.1)) / 2.1)
    assert found["steady"]["metrics"]["abs_rel"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_other_data_sets_have_no_order(clip):
    estimator = DepthEstimator(Flickering(), GLPNImageProcessor(), 10.0)
    report = evaluate(estimator, open_dataset("folder", clip))
    assert report.steadiness is None
    assert "steadiness" not in report.to_dict()
