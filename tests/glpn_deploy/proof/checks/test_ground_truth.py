"""Ground truth as a check: the same figures as glpn-eval's, and a drop that is too large fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.accuracy.evaluation import evaluate
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.proof.checks.ground_truth import Accuracy, GroundTruth

ROOMS = RenderedRooms("test", 3, height=64, width=96)


def test_figures_are_those_of_the_evaluation(tiny_onnx: Path, tmp_path: Path) -> None:
    half = to_half(tiny_onnx, tmp_path / "half.onnx")
    found = GroundTruth(ROOMS, tiny_onnx, GLPNImageProcessor()).check("fp16", half)
    with DepthEstimator.load(tiny_onnx) as estimator:
        expected = evaluate(estimator, ROOMS).metrics
    assert found.images == 3
    assert found.delta1_fp32 == pytest.approx(expected["delta1"], abs=1e-4)
    assert found.abs_rel_fp32 == pytest.approx(expected["abs_rel"], rel=1e-5)
    assert found.abs_rel == pytest.approx(expected["abs_rel"], rel=0.02)
    assert found.abs_rel != found.abs_rel_fp32
    assert found.largest_drop == 0.001
    assert {path.name for path in tmp_path.iterdir()} == {"half.onnx"}


def test_a_spoilt_graph_fails(tiny_onnx: Path, tmp_path: Path) -> None:
    """A check that always passes would be none: the head is set to the farthest depth."""
    model = onnx.load(str(tiny_onnx))
    for tensor in model.graph.initializer:
        if tensor.name == "head.biases":
            tensor.CopyFrom(numpy_helper.from_array(np.full(16, 20, np.float32), tensor.name))
    onnx.save(model, str(tmp_path / "far.onnx"))
    found = GroundTruth(ROOMS, tiny_onnx, GLPNImageProcessor()).check("int8", tmp_path / "far.onnx")
    assert found.delta1 < found.delta1_fp32 - 0.01
    assert not found.passed


@pytest.mark.parametrize(("delta1", "passed"), [(0.89, True), (0.95, True), (0.8899, False)])
def test_the_drop_is_counted_from_fp32(delta1: float, passed: bool) -> None:
    accuracy = Accuracy(
        dataset="rooms",
        images=500,
        delta1=delta1,
        abs_rel=0.1,
        delta1_fp32=0.9,
        abs_rel_fp32=0.1,
        largest_drop=0.0100001,
    )
    assert accuracy.passed is passed
    assert accuracy.to_dict()["accuracy"]["passed"] is passed
