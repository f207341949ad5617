"""What is measured, and how it is called."""

from __future__ import annotations

import dataclasses
import json

import pytest

from glpn_deploy.benchmarks.workload.cases import Case, CaseId, NotRun, Runner, parse_runner
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.decoding import decode


@pytest.mark.parametrize("precision", ["fp32", "int8+bf16"])
def test_a_case_goes_through_the_pipe(precision) -> None:
    case = Case(
        backend="null",
        precision=precision,
        batch=1,
        height=32,
        width=64,
        images=("a.png",),
        processor={"do_resize": True},
    )
    assert decode(Case, json.loads(json.dumps(dataclasses.asdict(case)))) == case
    assert str(case.id) == f"null {precision} 1x32x64"
    assert str(dataclasses.replace(case, batch=4).id) == f"null {precision} 4x32x64"


def test_a_label_takes_the_backends_place_in_names() -> None:
    case = Case(backend="tensorrt", precision="fp16", batch=1, height=480, width=640, label="tensorrt@small")
    assert str(case.id) == "tensorrt@small fp16 1x480x640"
    assert Runner(backend="tensorrt", precision="fp16", label="tensorrt@small").id == case.id.runner


def test_an_engine_takes_what_its_profiles_hold() -> None:
    runner = Runner(
        backend="tensorrt", precision="fp16", profiles=(Profile((1, 256, 320), (1, 480, 640), (4, 480, 640)),)
    )
    assert runner.takes((4, 480, 640))
    assert not runner.takes((5, 480, 640))
    assert not runner.takes((1, 640, 480))
    assert Runner(backend="onnxruntime", precision="fp32").takes((64, 32, 32))


@pytest.mark.parametrize(
    ("said_of", "covered"),
    [
        (CaseId(), True),
        (CaseId("torch"), True),
        (CaseId("torch", "fp32"), True),
        (CaseId(shape=(1, 32, 64)), True),
        (CaseId("torch-compile"), False),
        (CaseId("torch", "fp16"), False),
        (CaseId("torch", "fp32", (2, 32, 64)), False),
    ],
)
def test_what_is_said_of_many_cases_is_said_of_each(said_of, covered) -> None:
    assert said_of.covers(CaseId("torch", "fp32", (1, 32, 64))) is covered


@pytest.mark.parametrize("text", ["hf-eager:fp16", "hf-eager fp16"])
def test_a_runner_as_users_write_it(text) -> None:
    assert parse_runner(text) == CaseId("hf-eager", "fp16")
    assert parse_runner("torch") == CaseId("torch")


def test_names_in_tables() -> None:
    case = CaseId("null", "fp32", (1, 32, 64))
    assert NotRun(case, "x").name == "null fp32 1x32x64"
    assert NotRun(case, "x", "extras").name == "null fp32 1x32x64, stages, errors and accuracy"
    assert NotRun(CaseId(), "x", "load").name == "load"
