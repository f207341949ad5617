"""A report survives its file, and files that are none are refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glpn_deploy.benchmarks.report.results import Report, rounded
from glpn_deploy.errors import InputError
from tests.refusals import refused


@pytest.fixture
def read(tmp_path: Path) -> Callable[[object], Report]:
    """A report of values that may not be one, by way of a file."""

    def call(values: object) -> Report:
        path = tmp_path / "x.json"
        path.write_text(json.dumps(values))
        return Report.read(path)

    return call


def test_there_and_back(samples, row, report, tmp_path) -> None:
    base = samples(20.0, 1)
    whole = report([row(base, baseline=base)], calibration=samples(3.0, 2))
    back = Report.read(whole.write(tmp_path / "report.json"))
    assert rounded(back.to_dict()) == rounded(whole.to_dict())
    assert back.rows[0].samples.keys() == base.keys()
    assert back.rows[0].latency.median_ms == pytest.approx(whole.rows[0].latency.median_ms, rel=1e-5)


def test_a_later_field_is_left_out_and_a_later_version_refused(samples, row, report, read) -> None:
    values = report([row(samples(20.0, 1))]).to_dict()
    values["novelty"] = values["rows"][0]["novelty"] = 1
    assert read(values).rows[0].key == "onnxruntime fp32 1x96x128"
    with refused(InputError, got="format version 3"):
        read({**values, "format_version": 3})


def test_a_report_of_format_version_1_is_read(samples, row, report, read) -> None:
    """What was not run had a name in words, and a headline was one sentence."""
    values = report([row(samples(20.0, 1))]).to_dict()
    old = {"not_run": [{"name": "torch bf16", "reason": "planted"}], "headlines": ["1x96x128: no headline"]}
    found = read({**values, **old, "format_version": 1})
    assert found.not_run[0].name == "torch bf16"
    assert str(found.headlines[0]) == "1x96x128: no headline"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "glpn-deploy-bench", "format_version": 1}'])
def test_no_report(text, tmp_path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with refused(InputError, got="x.json"):
        Report.read(path)
    with refused(InputError, got="cannot be read"):
        Report.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": [{}]},
        {"rows": 3},
        {"calibration": [1]},
        {"calibration": {"0": []}},
        {"calibration": {"0": [10**400]}},
        {"not_run": [{"a": 1}]},
        {"machine": None},
        {"source": "glpn"},
        {"versions": []},
    ],
)
def test_a_damaged_report(damage, samples, row, report, read) -> None:
    values = {**report([row(samples(20.0, 1))]).to_dict(), **damage}
    with refused(InputError, got="x.json is damaged:", fix="run glpn-bench again"):
        read(values)


@pytest.mark.parametrize(
    "times", [{}, {"0": []}, {"0": [1.0, 0.0]}, {"0": [-1.0]}, {"0": [float("nan")]}, {"a": [1.0]}, [1.0]]
)
def test_a_damaged_row(times, samples, row, report, read) -> None:
    values = report([row(samples(20.0, 1))]).to_dict()
    values["rows"][0]["samples"] = times
    with refused(InputError, got=("x.json is damaged:", "rows[0].samples")):
        read(values)
