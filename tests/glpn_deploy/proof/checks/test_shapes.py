"""The sweep at export is the sweep of glpn-verify: a graph that is wrong at one shape is over budget."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.proof import parity
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.shapes import ShapeSweep
from glpn_deploy.proof.parity import compare_over_sweep
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime

SHAPES = ((1, 32, 32), (2, 64, 96))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "SWEEP", SHAPES)


def test_a_half_graph_runs_emulated_and_leaves_nothing(tiny_onnx: Path, tmp_path: Path) -> None:
    half = to_half(tiny_onnx, tmp_path / "model.fp16.onnx")
    sweep = ShapeSweep(tiny_onnx, GLPNImageProcessor(), {})
    report = sweep.check("fp16", Budget(max_abs_rel=0.5), half).report
    assert report.passed
    assert [case.shape for case in report.cases] == list(SHAPES)
    assert 0 < report.worst.stats.abs_rel < 0.5
    assert not sweep.check("fp16", Budget(max_abs_rel=report.worst.stats.abs_rel / 2), half).passed
    assert [path.name for path in tmp_path.iterdir()] == ["model.fp16.onnx"]


def test_goldens_are_checked_with_the_shapes(tiny_onnx: Path) -> None:
    golden = render_room(5, 96, 32).image
    sweep = ShapeSweep(tiny_onnx, GLPNImageProcessor(), {"golden/0.png": golden})
    report = sweep.check("int8", Budget(max_abs_rel=0.01), tiny_onnx).report
    assert [case.name for case in report.cases] == ["1x32x32", "2x64x96", "golden/0.png"]
    assert report.cases[-1].shape == (1, 96, 32)
    assert report.passed


def test_errors_are_those_of_the_verification(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(str(tiny_onnx))
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "head.biases"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.01, bias.name))
    moved = tmp_path / "moved.onnx"
    onnx.save(model, str(moved))
    budget, on_cpu = Budget(max_abs_rel=0.02), RuntimeOptions(device="cpu")
    found = ShapeSweep(tiny_onnx, GLPNImageProcessor(), {}).check("int8", budget, moved).report
    with (
        load_runtime("onnxruntime", moved, on_cpu) as one,
        load_runtime("onnxruntime", tiny_onnx, on_cpu) as other,
    ):
        expected = compare_over_sweep(one, other, GLPNImageProcessor(), budget)
    assert [case.stats for case in found.cases] == [case.stats for case in expected.cases]
