"""The baseline that is asked for, the data set that is looked at first, and what tells two sources apart."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun, Runner
from glpn_deploy.benchmarks.workload.references import check_dataset, choose_baseline, describe_source
from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.errors import DatasetError, InputError
from tests.refusals import refused

RUNNERS = [
    Runner(backend="onnxruntime", precision="bf16", probe=True),
    Runner(backend="onnxruntime", precision="fp32"),
    Runner(backend="torch", precision="fp32"),
    Runner(backend="hf-eager", precision="fp32"),
    Runner(backend="hf-eager", precision="fp16"),
]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, "torch fp32"),
        ("onnxruntime", "onnxruntime bf16"),
        ("onnxruntime:fp32", "onnxruntime fp32"),
        ("hf-eager", "hf-eager fp32"),
        ("hf-eager:fp16", "hf-eager fp16"),
    ],
)
def test_the_baseline_by_its_name(asked, name) -> None:
    assert str(choose_baseline(RUNNERS, asked).id) == name


@pytest.mark.parametrize("asked", ["optimum", "optimum:fp32", "optimum fp32"])
def test_a_baseline_that_cannot_run_says_why(asked) -> None:
    not_run = [NotRun(CaseId("torch"), "x"), NotRun(CaseId("optimum"), "it is not installed; pip install it")]
    with refused(InputError, got=f"--baseline {asked} cannot run here: it is not installed; pip"):
        choose_baseline(RUNNERS, asked, not_run)


def test_a_baseline_that_is_none_lists_those_that_are() -> None:
    with refused(
        InputError, got="--baseline tvm is not among the rows", expected=("one of", "hf-eager fp16")
    ):
        choose_baseline(RUNNERS, "tvm", [NotRun(CaseId("optimum"), "x")])


def test_a_data_set_is_looked_at_first(tmp_path) -> None:
    check_dataset(GroundTruthOptions())
    check_dataset(GroundTruthOptions(dataset="rooms", count=3))
    with refused(InputError, got="--eval kitti needs a path", fix="pass --data-path"):
        GroundTruthOptions(dataset="kitti")
    with pytest.raises(DatasetError):
        check_dataset(GroundTruthOptions(dataset="folder", path=str(tmp_path)))
    with refused(InputError, got="no option count"):
        check_dataset(GroundTruthOptions(dataset="folder", path=str(tmp_path), count=3))


def test_a_source_tells_bundles_and_images_apart(bundle_copy, tmp_path) -> None:
    image = tmp_path / "0.png"
    Image.new("RGB", (32, 32)).save(image)
    first = describe_source(Bundle.open(bundle_copy), [image])
    assert first == describe_source(Bundle.open(bundle_copy), [image])
    assert first["images"] == ["0.png"]
    Image.new("RGB", (32, 32), "red").save(image)
    other = describe_source(Bundle.open(bundle_copy), [image])
    assert {name for name in first if first[name] != other[name]} == {"images_sha256"}
    bundle = Bundle.open(bundle_copy)
    write_manifest(bundle_copy, dataclasses.replace(bundle.manifest, goldens=()))
    changed = describe_source(Bundle.open(bundle_copy), [image])
    assert {name for name in other if other[name] != changed[name]} == {"manifest_sha256"}
