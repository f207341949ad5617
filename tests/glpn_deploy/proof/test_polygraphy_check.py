"""Polygraphy's verdict beside ours: where they agree, what is said where they do not."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import onnx
import pytest

from glpn_deploy import GLPNImageProcessor
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError, MissingDependencyError, ParityError
from glpn_deploy.exporters.calibration.calibration import calibrate, random_images
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.exporters.typed_qdq import QuantizeOptions
from glpn_deploy.optional import install_line
from glpn_deploy.proof.artefact_check import open_artefact
from glpn_deploy.proof.checks.budget import Budget
from glpn_deploy.proof.parity import Batch, compare_batches, golden_batches, room_batch
from glpn_deploy.proof.polygraphy_check import _session, polygraphy_check, require_polygraphy
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from tests.refusals import refused

CPU = RuntimeOptions(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("polygraphy", reason="the polygraphy extra is not installed")


@pytest.fixture
def make(bundle_copy, plant):
    """A report on a planted artefact, with what `polygraphy_check` takes."""

    def made(limit, factor=1.0, offset=0.0):
        plant(bundle_copy, "int8", factor, offset)
        source, candidate = bundle_copy / "model.onnx", bundle_copy / "model.int8.onnx"
        processor = Bundle.open(bundle_copy).processor
        pixels = {"a": room_batch(processor, 1, 32, 64), "b": room_batch(processor, 2, 64, 32)}
        reference = OnnxRuntime(source, CPU)
        batches = [Batch(name, batch, reference.run(batch)) for name, batch in pixels.items()]
        report = compare_batches(OnnxRuntime(candidate, CPU), batches, reference.describe(), limit)
        return candidate, source, batches, report

    return made


@pytest.mark.parametrize(
    ("limit", "factor", "passed"),
    [
        (Budget(max_abs_rel=0.02), 1.0, True),
        (Budget(max_abs_rel=0.02), 1.018, True),
        (Budget(max_abs_rel=0.02), 1.022, False),
        (Budget(max_abs_rel=0.02, max_abs_m=1e-3), 1.01, False),
        (Budget(max_abs_m=9.0), 1.5, True),
        (Budget(max_abs_m=1e-3), 1.0, True),
        (Budget(max_abs_m=1e-3), 1.01, False),
        (Budget(max_abs_m=100.0), float("nan"), False),
        (Budget(max_abs_m=100.0), float("inf"), False),
    ],
)
def test_it_agrees_on_what_passes_and_on_what_fails(limit, factor, passed, make, capsys):
    arguments = make(limit, factor)
    report, found = arguments[-1], polygraphy_check(*arguments)
    assert report.passed is passed
    assert [case.ours for case in found.cases] == [passed, passed]
    assert found.agrees
    assert found.passed is passed
    found.require()
    for case, ours in zip(found.cases, report.cases, strict=True):
        if np.isfinite(factor):
            assert case.max_abs_m == pytest.approx(ours.stats.max_abs_m, rel=1e-3, abs=1e-5)
            assert case.abs_rel == pytest.approx(ours.stats.abs_rel, rel=1e-3, abs=1e-6)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["agrees"] is True
    assert capsys.readouterr().out == ""  # Polygraphy logs to standard output, where --json writes


def test_a_flag_alone_is_no_disagreement(make):
    arguments = make(Budget(max_abs_m=100.0), 0.0, 3.0)
    assert not arguments[-1].passed
    assert polygraphy_check(*arguments).agrees


def test_the_goldens_are_its_reference_where_no_graph_is_given(bundle_copy):
    bundle, graph = Bundle.open(bundle_copy), bundle_copy / "model.onnx"
    batches = list(golden_batches(bundle))
    report = compare_batches(
        OnnxRuntime(graph, CPU), batches, {"backend": "golden", "precision": "fp32"}, Budget(max_abs_m=1e-4)
    )
    found = polygraphy_check(graph, None, batches, report)
    assert found.agrees
    assert found.passed
    moved = [batch._replace(depth=batch.depth + np.float32(0.01)) for batch in batches]
    assert not polygraphy_check(graph, None, moved, report).agrees


@pytest.fixture(scope="module")
def quantize(tiny_model, tmp_path_factory):
    """INT8 graphs of the tiny network, by opset and target."""

    def made(opset, target):
        folder = tmp_path_factory.mktemp("int8")
        source = to_onnx(tiny_model, folder / "model.onnx", OnnxOptions(opset))
        options, images = QuantizeOptions(target=target), random_images(16, 64, 96)
        ranges = calibrate(source, images, GLPNImageProcessor(), int8_tensors(source, options))
        return to_int8(source, folder / "model.int8.onnx", ranges, options)

    return made


@pytest.mark.parametrize(("opset", "target"), [(17, "tensorrt"), (20, "tensorrt"), (17, "cpu")])
@pytest.mark.parametrize("deployed", [False, True])
def test_quantised_graphs_give_it_the_tensor_that_they_give_us(quantize, opset, target, deployed, tmp_path):
    """As judged, emulated, and as deployed: not one Q/DQ pair is computed in another way."""
    path: Any = quantize(opset, target)
    pixel_values = GLPNImageProcessor().prepare(random_images(1, 64, 96, seed=5)[0])[None]
    if deployed:
        runtime, plain = OnnxRuntime(path, CPU), False
    else:
        run: Any = open_artefact(path, "int8", CPU, "cpu", tmp_path)
        path, runtime, plain = run.path, run.runtime, run.plain_qdq
    ours = runtime.run(pixel_values)
    from polygraphy.backend.onnxrt import OnnxrtRunner

    with OnnxrtRunner(_session(path, "cpu", plain)) as runner:
        theirs = runner.infer({"pixel_values": pixel_values})["predicted_depth"]
    np.testing.assert_array_equal(theirs, ours)


def test_a_graph_that_does_not_load_is_said(make):
    candidate, source, batches, report = make(Budget(max_abs_m=1.0))
    model = onnx.load(str(candidate))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save_model(model, str(candidate))
    with refused(BackendError, got=("cannot load", "model.int8.onnx")):
        polygraphy_check(candidate, source, batches, report)


def test_a_disagreement_names_case_and_verdicts(make):
    candidate, source, batches, report = make(Budget(max_abs_rel=0.02), 1.05)
    wrong = dataclasses.replace(report, limit=Budget(max_abs_rel=0.04))
    cases = tuple(
        dataclasses.replace(case, stats=dataclasses.replace(case.stats, abs_rel=0.0), passed=True)
        for case in report.cases
    )
    found = polygraphy_check(candidate, source, batches, dataclasses.replace(wrong, cases=cases))
    assert not found.agrees
    with refused(ParityError, got=("finds a not within it (AbsRel 0.05", "we find it within the limit")):
        found.require()


def test_other_batches_are_refused(make):
    candidate, source, batches, report = make(Budget(max_abs_m=1.0))
    with refused(ParityError, got="not those of the report"):
        polygraphy_check(candidate, source, batches[::-1], report)


def test_it_does_not_fall_back_to_the_cpu(make):
    candidate, source, batches, report = make(Budget(max_abs_m=1.0))
    with refused(BackendError, got="no provider"):
        polygraphy_check(candidate, source, batches, report, device="cuda:0")


def test_without_polygraphy(monkeypatch):
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with refused(MissingDependencyError, fix=install_line("polygraphy")):
        require_polygraphy()
