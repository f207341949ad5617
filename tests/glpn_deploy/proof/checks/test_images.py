"""Checking graphs whose error is known by construction."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.errors import BackendError, ExportError, InputError
from glpn_deploy.exporters.to_half import to_half
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.checks.images import FP32Depth, describe_errors
from glpn_deploy.proof.checks.opening import opened
from tests.refusals import refused

PROCESSOR = GLPNImageProcessor()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def changed(source, target, name, change):
    """The graph with one weight changed."""
    model = onnx.load(str(source))
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    onnx.save_model(model, str(target))
    return target


def scale_of(source) -> str:
    """The name of the head's last factor, max_depth."""
    node = onnx.load(str(source)).graph.node[-1]
    assert node.op_type == "Mul"
    return node.input[1]


def test_a_graph_one_percent_too_deep_has_an_abs_rel_of_one_percent(tiny_onnx, tmp_path):
    images = [picture(64, 96), picture(40, 70, 1)]  # the second is prepared as 32x64
    deeper = changed(tiny_onnx, tmp_path / "deeper.onnx", scale_of(tiny_onnx), lambda x: x * np.float32(1.01))
    errors = FP32Depth(tiny_onnx, images, PROCESSOR).errors(deeper)
    session = ort.InferenceSession(str(tiny_onnx), providers=["CPUExecutionProvider"])
    depth = [session.run(None, {"pixel_values": PROCESSOR.prepare(image)[None]})[0] for image in images]
    assert errors.abs_rel == pytest.approx(0.01, rel=1e-4)
    assert errors.max_abs_m == pytest.approx(0.01 * max(d.max() for d in depth), rel=1e-4)
    assert (errors.delta1, errors.non_finite) == (1.0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["deeper.onnx"]


def test_all_pixels_weigh_the_same(tiny_onnx, tmp_path):
    """The large image has nine times as many as the small one."""
    large, small = picture(96, 96), picture(32, 32, 1)
    bias = "head.biases"
    moved = changed(tiny_onnx, tmp_path / "moved.onnx", bias, lambda x: x + np.float32(0.1))
    alone = [FP32Depth(tiny_onnx, [image], PROCESSOR).errors(moved) for image in (large, small)]
    both = FP32Depth(tiny_onnx, [large, small], PROCESSOR).errors(moved)
    assert both.abs_rel == pytest.approx((9 * alone[0].abs_rel + alone[1].abs_rel) / 10, rel=1e-6)


def test_not_finite_pixels_are_counted(tiny_onnx, tmp_path):
    broken = changed(tiny_onnx, tmp_path / "nan.onnx", scale_of(tiny_onnx), lambda x: x * np.float32(np.nan))
    errors = FP32Depth(tiny_onnx, [picture(32, 64)], PROCESSOR).errors(broken)
    assert errors.non_finite == 32 * 64
    assert describe_errors(errors) == "2048 pixels are NaN or infinite"


def test_a_reference_that_is_not_finite_is_refused(tiny_onnx, tmp_path):
    broken = changed(tiny_onnx, tmp_path / "nan.onnx", scale_of(tiny_onnx), lambda x: x * np.float32(np.nan))
    with refused(ExportError, got="2048 of 2048 pixels that are not finite"):
        FP32Depth(broken, [picture(32, 64)], PROCESSOR)


def test_no_images_are_refused(tiny_onnx):
    with refused(InputError, got="no images to check on"):
        FP32Depth(tiny_onnx, [], PROCESSOR)


def test_overflow_in_fp16_shows(tiny_onnx, tmp_path):
    """The head's first layer 2^15 times too large and its second as much smaller: FP32 does not notice.

    A weight of 3 fits FP16 then, the sums of such products do not.
    """
    hostile = tiny_onnx
    for tensor in onnx.load(str(tiny_onnx)).graph.initializer:
        factor = 2.0**15 if tensor.name.startswith("head.head.0.") else 2.0**-15
        if tensor.name.startswith("head.head.0.") or tensor.name in ("head.head.2.weight", "head.taps"):
            scaled = functools.partial(np.multiply, np.float32(factor))
            hostile = changed(hostile, tmp_path / "hostile.onnx", tensor.name, scaled)
    image = picture(32, 64)
    same = FP32Depth(tiny_onnx, [image], PROCESSOR).errors(hostile)
    assert same.abs_rel < 1e-6
    half = to_half(hostile, tmp_path / "half.onnx")
    errors = FP32Depth(hostile, [image], PROCESSOR).errors(half)
    assert errors.non_finite or errors.abs_rel > 0.001
    assert not list(tmp_path.glob("emulated*"))


def test_the_check_holds_the_errors_to_its_budget(tiny_onnx, tmp_path):
    deeper = changed(tiny_onnx, tmp_path / "deeper.onnx", scale_of(tiny_onnx), lambda x: x * np.float32(1.01))
    reference = FP32Depth(tiny_onnx, [picture(32, 64)], PROCESSOR)
    found = reference.check(Budget(0.011), deeper, "deeper")
    assert found.passed
    assert found.to_dict()["abs_rel"] == pytest.approx(0.01, rel=1e-4)
    assert not reference.check(Budget(0.009), deeper, "deeper").passed


def test_a_backend_error_names_the_file(tiny_onnx, tmp_path):
    model = onnx.load(str(tiny_onnx))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save_model(model, str(tmp_path / "odd.onnx"))
    with refused(BackendError, got=("cannot load", "odd.onnx")), opened(tmp_path / "odd.onnx"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]
