"""What a bundle gives to measure."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks import cases
from glpn_deploy.benchmarks.cases import Case, plan_runners
from glpn_deploy.bundle import Bundle
from glpn_deploy.errors import InputError
from glpn_deploy.runtimes.registry import BACKENDS, Backend


def names(bundle, checkpoint, **choice) -> list[str]:
    return [runner.name for runner in plan_runners(Bundle.open(bundle), checkpoint, **choice)[0]]


def test_every_installed_backend_without_the_null_one(tiny_bundle, tiny_checkpoint) -> None:
    found = names(tiny_bundle, tiny_checkpoint)
    assert {"torch fp32", "torch bf16", "onnxruntime fp32"} <= set(found)
    assert not any(name.startswith("null") for name in found)
    assert names(tiny_bundle, tiny_checkpoint, backends=["null"]) == ["null fp32"]


def test_a_new_backend_appears_by_itself(tiny_bundle, monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "newcomer", Backend("newcomer", None, "", "onnx"))
    assert "newcomer fp32" in names(tiny_bundle, None)


def test_precisions_without_a_file_are_tried_from_fp32(tiny_bundle) -> None:
    runners, _ = plan_runners(Bundle.open(tiny_bundle), None, ["onnxruntime"], ["bf16"])
    (runner,) = runners
    assert runner.probe
    assert runner.path.name == "model.onnx"


def test_what_cannot_be_tried_says_why(tiny_bundle, monkeypatch) -> None:
    absent = Backend("absent", "no_such_module", 'pip install "glpn-deploy[absent]"', "onnx")
    monkeypatch.setitem(BACKENDS, "absent", absent)
    _, not_run = plan_runners(Bundle.open(tiny_bundle), None, peers=["hf-eager"])
    reasons = {item.name: item.reason for item in not_run}
    assert "pip install" in reasons["absent"]
    assert "--reference" in reasons["torch"]
    assert "--reference" in reasons["hf-eager"]


def test_a_changed_artefact_is_not_run(bundle_copy) -> None:
    path = bundle_copy / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    runners, not_run = plan_runners(Bundle.open(bundle_copy), None, ["onnxruntime"])
    assert runners == []
    assert "changed since the export" in not_run[0].reason


def test_names_that_are_none(tiny_bundle) -> None:
    for choice in ({"backends": ["x"]}, {"precisions": ["fp64"]}, {"peers": ["x"]}):
        with pytest.raises(InputError):
            plan_runners(Bundle.open(tiny_bundle), None, **choice)


def test_a_case_goes_through_the_pipe() -> None:
    case = Case("null", "fp32", 1, 32, 64, images=("a.png",), processor={"do_resize": True})
    assert Case.from_dict(case.to_dict()) == case
    assert case.key == "null fp32 1x32x64"
    assert dataclasses.replace(case, batch=4).key == "null fp32 4x32x64"


def test_disk_bytes_counts_weights_only(tiny_checkpoint) -> None:
    assert cases.disk_bytes(tiny_checkpoint) == (tiny_checkpoint / "model.safetensors").stat().st_size
