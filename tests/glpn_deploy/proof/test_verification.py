"""Verifying where a bundle stands: digests, goldens, and PyTorch where a checkpoint is given."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.errors import BundleError, CheckpointError, InputError, MissingDependencyError, ParityError
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.exporters.options import BuildOptions
from glpn_deploy.optional import install_line
from glpn_deploy.proof.artefact_check import open_artefact
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.verification import verify
from glpn_deploy.runtimes.base import RuntimeOptions
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("short_sweep")

CPU = RuntimeOptions(device="cpu", threads=1)


def reports_of(folder, reference=None, **options):
    """The reports of a verification that could check everything here."""
    found = verify(folder, VerifyOptions(reference=reference, runtime=CPU, **options))
    assert found.complete
    return list(found.reports)


def test_goldens_alone(tiny_bundle):
    (report,) = reports_of(tiny_bundle)
    assert report.passed
    assert report.reference["backend"] == "golden"
    assert report.worst.stats.max_abs_m <= 1e-5 * 10


def test_against_the_checkpoint(tiny_bundle, tiny_checkpoint):
    goldens, sweep = reports_of(tiny_bundle, str(tiny_checkpoint))
    assert goldens.passed
    assert sweep.passed
    assert [case.shape for case in sweep.cases] == [(1, 32, 32), (2, 64, 96)]
    assert sweep.reference["backend"] == "torch"


def test_another_scale_is_compared_fairly(tiny_checkpoint, tmp_path):
    options = BuildOptions(verify=False, max_depth=80, norm_eps="original")
    build_bundle(tiny_checkpoint, tmp_path / "out", options)
    reports = reports_of(tmp_path / "out", str(tiny_checkpoint))
    assert all(report.passed for report in reports)
    assert reports[1].limit.max_abs_m == pytest.approx(8e-4)


def test_other_weights_fail(tiny_bundle, make_model, tmp_path):
    make_model(seed=1).save_pretrained(tmp_path)
    goldens, sweep = reports_of(tiny_bundle, str(tmp_path))
    assert goldens.passed
    assert not sweep.passed


def test_training_settings_do_not_make_another_network(tiny_bundle, make_model, tiny_config, tmp_path):
    make_model(tiny_config.replace(drop_path_rate=0.3, hidden_dropout_prob=0.1)).save_pretrained(tmp_path)
    assert all(report.passed for report in reports_of(tiny_bundle, str(tmp_path)))


def test_another_architecture_is_refused(tiny_bundle, make_model, tiny_config, tmp_path):
    make_model(tiny_config.replace(depths=(1, 1, 1, 1))).save_pretrained(tmp_path)
    with refused(BundleError, got=("is not the network that", "their configs differ")):
        reports_of(tiny_bundle, str(tmp_path))
    with pytest.raises(CheckpointError):
        reports_of(tiny_bundle, str(tmp_path / "nowhere"))


def test_wrong_goldens_fail_with_their_digests_right(bundle_copy):
    manifest = Bundle.open(bundle_copy).manifest
    path = bundle_copy / manifest.goldens[1].depth
    np.save(path, np.load(path) + np.float32(2e-3))
    write_manifest(bundle_copy, manifest)
    (report,) = reports_of(bundle_copy)
    assert [case.passed for case in report.cases] == [True, False, True]
    (report,) = reports_of(bundle_copy, tolerance=1e-3)
    assert report.passed


def test_damage_anywhere_stops_it(bundle_copy):
    (bundle_copy / "config.json").write_text("{}")
    with refused(BundleError, got="config.json"):
        reports_of(bundle_copy)


def test_no_fp32_artefact(bundle_copy):
    manifest = Bundle.open(bundle_copy).manifest
    write_manifest(bundle_copy, dataclasses.replace(manifest, artefacts=()))
    with refused(BundleError, got="has no fp32 artefact", expected="one of those it has: none"):
        reports_of(bundle_copy)


def test_a_missing_backend_names_the_line(tiny_bundle, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(MissingDependencyError, fix=install_line("cpu")):
        verify(tiny_bundle)


def test_goldens_need_neither_torch_nor_onnx(tiny_bundle):
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors', 'transformers', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        "from glpn_deploy.proof.verification import verify\n"
        f"assert verify({str(tiny_bundle)!r}).passed"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Artefacts of lower precision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "budget"), [("fp16", 0.001), ("bf16", 0.01), ("int8", 0.02), ("fp8", 0.05)]
)
def test_each_precision_has_its_budget(precision, budget, bundle_copy, plant):
    for share, passed in ((0.9, True), (1.1, False)):
        folder = shutil.copytree(bundle_copy, bundle_copy.with_name(f"{share}"))
        plant(folder, precision, 1 + share * budget)
        found = verify(folder, VerifyOptions(runtime=CPU))
        full, goldens, sweep = found.reports
        assert full.candidate["precision"] == "fp32"
        assert full.passed
        assert goldens.reference["backend"] == "golden"
        assert (sweep.reference["backend"], sweep.reference["precision"]) == ("onnxruntime", "fp32")
        assert [case.shape for case in sweep.cases] == [(1, 32, 32), (2, 64, 96)]
        for report in (goldens, sweep):
            assert report.candidate["precision"] == precision
            assert report.candidate["file"] == f"model.{precision}.onnx"
            assert report.limit.max_abs_rel == budget
            assert report.worst.stats.abs_rel == pytest.approx(share * budget, rel=0.02)
            assert report.passed is passed
        assert found.passed is passed
        assert found.complete


def test_every_artefact_is_checked_and_one_may_be_asked_for(bundle_copy, plant):
    plant(plant(bundle_copy, "fp16", 1.0005), "int8", 1.5)
    found = verify(bundle_copy, VerifyOptions(runtime=CPU))
    verdicts = [(report.candidate["precision"], report.passed) for report in found.reports]
    assert verdicts == [("fp32", True), ("fp16", True), ("fp16", True), ("int8", False), ("int8", False)]
    with refused(ParityError, got="int8 differs by AbsRel 0.5", expected="AbsRel at most 0.02 from golden"):
        found.require()
    assert found.worst_image[0].candidate["precision"] == "int8"
    found = verify(bundle_copy, VerifyOptions(runtime=CPU, precisions=("fp16",), sweep=False))
    assert [report.candidate["precision"] for report in found.reports] == ["fp16"]
    assert found.passed
    assert [report.passed for report in reports_of(bundle_copy)][-1] is False


def test_the_budget_of_the_manifest_holds(bundle_copy, plant):
    plant(bundle_copy, "int8", 1.03, budget={"max_abs_rel": 0.04, "max_abs_m": None})
    options = VerifyOptions(runtime=CPU, sweep=False)
    assert verify(bundle_copy, options).passed
    manifest = Bundle.open(bundle_copy).manifest
    full, low = manifest.artefacts
    for budget in ({"max_abs_rel": 0.02}, {"max_abs_rel": None, "max_abs_m": 1e-3}):
        low = dataclasses.replace(low, budget=budget)
        write_manifest(bundle_copy, dataclasses.replace(manifest, artefacts=(full, low)))
        assert not verify(bundle_copy, options).passed
    for damaged in ({"max_abs_rel": "much"}, {"max_abs_m": -1}, {"max_abs_rel": 0}):
        low = dataclasses.replace(low, budget=damaged)
        write_manifest(bundle_copy, dataclasses.replace(manifest, artefacts=(full, low)))
        with refused(BundleError, got="entry of model.int8.onnx"):
            verify(bundle_copy, options)


@pytest.mark.parametrize(
    ("factor", "offset", "flag"),
    [(float("nan"), 0, "nan"), (float("inf"), 0, "infinite"), (0, 3, "constant"), (0.05, 3, "collapsed")],
)
def test_broken_maps_are_flagged(factor, offset, flag, bundle_copy, plant):
    plant(bundle_copy, "int8", factor, offset)
    found = verify(bundle_copy, VerifyOptions(runtime=CPU, precisions=("int8",)))
    assert not found.passed
    for report in found.reports:
        assert any(flag in case.flags for case in report.cases)


def test_overflow_that_onnxruntime_hides_is_found(bundle_copy, plant):
    half = TensorProto.FLOAT16
    steps = [("Cast", half, 0), ("Mul", half, 60000), ("Div", half, 60000), ("Cast", TensorProto.FLOAT, 0)]
    plant(bundle_copy, "fp16", steps=steps)
    report = verify(bundle_copy, VerifyOptions(runtime=CPU, precisions=("fp16",), sweep=False)).reports[0]
    assert report.candidate["run"] == "emulated fp16"
    assert "infinite" in report.worst.flags


def test_without_onnx_what_was_not_checked_is_said(bundle_copy, plant, monkeypatch):
    plant(plant(plant(bundle_copy, "fp16", 1.0005), "bf16"), "int8")
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else known(name))
    found = verify(bundle_copy, VerifyOptions(runtime=CPU, sweep=False))
    assert [report.candidate["precision"] for report in found.reports] == ["fp32", "fp16", "int8"]
    assert found.passed
    assert not found.complete
    assert [item.precision for item in found.not_run] == ["fp16", "bf16"]
    assert all("pip install onnx" in item.reason for item in found.not_run)


def test_a_precision_without_kernels_is_no_failure(bundle_copy, tmp_path, monkeypatch):
    kind = TensorProto.BFLOAT16
    a = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=kind),
        helper.make_node("Conv", ["half", "w"], ["conv"]),
        helper.make_node("Cast", ["conv"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["full", "axis"], ["y"]),
    ]
    weights = [
        helper.make_tensor("w", kind, [1, 3, 1, 1], [1.0] * 3),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    b = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 32])
    model = helper.make_model(
        helper.make_graph(nodes, "bf16", [a], [b], weights), opset_imports=[helper.make_opsetid("", 22)]
    )
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    reason = open_artefact(tmp_path / "model.onnx", "bf16", CPU, "cuda:0", tmp_path)
    assert isinstance(reason, str)
    assert "Conv" in reason


def test_a_file_that_is_no_graph_is_an_error(bundle_copy, plant):
    plant(bundle_copy, "int8")
    (bundle_copy / "model.int8.onnx").write_bytes(b"no graph")
    write_manifest(bundle_copy, Bundle.open(bundle_copy).manifest)
    with refused(BundleError, got="model.int8.onnx is not an ONNX file"):
        verify(bundle_copy, VerifyOptions(runtime=CPU, sweep=False))


@pytest.mark.parametrize(
    "options",
    [
        {"reference": "x", "sweep": False},
        {"reference": "x", "precisions": ("fp16",)},
        {"precisions": ("fp12",)},
    ],
)
def test_options_that_contradict_each_other(options):
    with pytest.raises(InputError):
        VerifyOptions(**options)


def test_a_precision_that_the_bundle_has_not(tiny_bundle):
    with refused(BundleError, got="has no int8 artefact"):
        verify(tiny_bundle, VerifyOptions(precisions=("int8",)))


def test_an_artefact_of_an_unknown_kind_is_not_called_right(bundle_copy, plant):
    plant(bundle_copy, "fp16", kind="plan9")
    with refused(BundleError, got="unknown kind 'plan9'"):
        verify(bundle_copy)
    assert verify(bundle_copy, VerifyOptions(precisions=("fp32",))).passed
