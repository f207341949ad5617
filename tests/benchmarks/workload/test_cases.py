"""What is measured, and how it is called."""

from __future__ import annotations

import dataclasses

from glpn_deploy.benchmarks.workload.cases import Case, Runner
from glpn_deploy.bundle.engine_profile import Profile


def test_a_case_goes_through_the_pipe() -> None:
    case = Case("null", "fp32", 1, 32, 64, images=("a.png",), processor={"do_resize": True})
    assert Case.from_dict(case.to_dict()) == case
    assert case.key == "null fp32 1x32x64"
    assert dataclasses.replace(case, batch=4).key == "null fp32 4x32x64"


def test_a_label_takes_the_backends_place_in_names() -> None:
    case = Case("tensorrt", "fp16", 1, 480, 640, label="tensorrt@small")
    assert case.key == "tensorrt@small fp16 1x480x640"
    assert Runner("tensorrt", "fp16", None, label="tensorrt@small").name == case.runner


def test_an_engine_takes_what_its_profiles_hold() -> None:
    runner = Runner(
        "tensorrt", "fp16", None, profiles=(Profile((1, 256, 320), (1, 480, 640), (4, 480, 640)),)
    )
    assert runner.takes((4, 480, 640))
    assert not runner.takes((5, 480, 640))
    assert not runner.takes((1, 640, 480))
    assert Runner("onnxruntime", "fp32", None).takes((64, 32, 32))
