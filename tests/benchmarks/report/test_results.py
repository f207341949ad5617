"""A report survives its file, and files that are none are refused in a sentence."""

from __future__ import annotations

import json

import pytest

from glpn_deploy.benchmarks.report.results import Report, rounded
from glpn_deploy.errors import InputError


def test_there_and_back(samples, row, report, tmp_path) -> None:
    base = samples(20.0, 1)
    whole = report([row(base, baseline=base)], calibration=samples(3.0, 2))
    back = Report.read(whole.write(tmp_path / "report.json"))
    assert rounded(back.to_dict()) == rounded(whole.to_dict())
    assert back.rows[0].samples.keys() == base.keys()
    assert back.rows[0].latency.median_ms == pytest.approx(whole.rows[0].latency.median_ms, rel=1e-5)


def test_a_later_field_is_left_out_and_a_later_version_refused(samples, row, report) -> None:
    values = json.loads(json.dumps(report([row(samples(20.0, 1))]).to_dict()))
    values["novelty"] = values["rows"][0]["novelty"] = 1
    assert Report.from_dict(values, "x").rows[0].key == "onnxruntime fp32 1x96x128"
    with pytest.raises(InputError, match="format version 3"):
        Report.from_dict({**values, "format_version": 3}, "x")


def test_a_report_of_format_version_1_is_read(samples, row, report) -> None:
    """What was not run had a name in words, and a headline was one sentence."""
    values = json.loads(json.dumps(report([row(samples(20.0, 1))]).to_dict()))
    old = {"not_run": [{"name": "torch bf16", "reason": "planted"}], "headlines": ["1x96x128: no headline"]}
    found = Report.from_dict({**values, **old, "format_version": 1}, "x")
    assert found.not_run[0].name == "torch bf16"
    assert str(found.headlines[0]) == "1x96x128: no headline"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "glpn-deploy-bench", "format_version": 1}'])
def test_no_report(text, tmp_path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        Report.read(path)
    with pytest.raises(InputError, match="cannot be read"):
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
def test_a_damaged_report(damage, samples, row, report) -> None:
    values = {**report([row(samples(20.0, 1))]).to_dict(), **damage}
    with pytest.raises(InputError, match=r"x is damaged: .*run glpn-bench again"):
        Report.from_dict(values, "x")


@pytest.mark.parametrize(
    "times", [{}, {"0": []}, {"0": [1.0, 0.0]}, {"0": [-1.0]}, {"0": [float("nan")]}, {"a": [1.0]}, [1.0]]
)
def test_a_damaged_row(times, samples, row, report) -> None:
    values = report([row(samples(20.0, 1))]).to_dict()
    values["rows"][0]["samples"] = times
    with pytest.raises(InputError, match=r"x is damaged: .*rows\[0\]\.samples"):
        Report.from_dict(values, "x")
