"""ONNX files of other software against the checkpoint: right ones pass, others fail."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from glpn_deploy.errors import InputError
from glpn_deploy.proof import parity
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.verification import verify


def against(path, checkpoint, **options):
    return verify(path, VerifyOptions(reference=str(checkpoint), **options))


def test_a_file_of_one_size_is_compared_at_that(foreign_onnx, tiny_checkpoint):
    found = against(foreign_onnx, tiny_checkpoint)
    (report,) = found.reports
    assert [case.shape for case in report.cases] == [(1, 64, 96)]
    assert found.passed
    assert found.max_depth == 10
    assert 0 < report.worst.stats.max_abs_m < 1e-4
    assert (report.reference["backend"], report.candidate["precision"]) == ("torch", "fp32")


def test_other_weights_fail(foreign_onnx, make_model, tmp_path):
    make_model(seed=1).save_pretrained(tmp_path)
    assert not against(foreign_onnx, tmp_path).passed


def test_free_shapes_are_compared_over_the_sweep(tiny_onnx, tiny_checkpoint, tmp_path, monkeypatch):
    """As in Optimum's folder: config.json beside a file that says nothing."""
    monkeypatch.setattr(parity, "SWEEP", parity.SWEEP[:5])  # the others take 9 s
    shutil.copy(tiny_checkpoint / "config.json", tmp_path)
    model = onnx.load(tiny_onnx)
    del model.metadata_props[:]
    onnx.save_model(model, tmp_path / "model.onnx")
    (report,) = against(tmp_path, tiny_checkpoint).reports
    assert report.passed
    assert {case.shape[0] for case in report.cases} == {1, 2, 3}
    assert len(report.cases) == 5


def test_a_lower_precision_is_held_to_its_budget(tiny_onnx, tiny_checkpoint, tmp_path):
    quantize_dynamic(tiny_onnx, tmp_path / "model.onnx", weight_type=QuantType.QUInt8)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    onnx.save_model(model, tmp_path / "model.onnx")
    (report,) = against(tmp_path / "model.onnx", tiny_checkpoint).reports
    assert report.limit.max_abs_rel == 0.02
    assert report.candidate["precision"] == "int8"
    assert "a tool converted it" in report.candidate["why"]


@pytest.mark.parametrize("options", [{"precisions": ("fp32",)}, {"polygraphy": True}])
def test_what_only_a_bundle_has(options, foreign_onnx, tiny_checkpoint):
    with pytest.raises(InputError) as caught:
        against(foreign_onnx, tiny_checkpoint, **options)
    assert caught.value.expected == "a bundle"


def test_without_a_checkpoint(foreign_onnx):
    with pytest.raises(InputError) as caught:
        verify(foreign_onnx)
    assert "--reference" in caught.value.fix


def test_as_json(foreign_onnx, tiny_checkpoint):
    values = json.loads(json.dumps(against(foreign_onnx, tiny_checkpoint).to_dict()))
    assert (values["passed"], values["complete"]) == (True, True)
