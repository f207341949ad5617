"""glpn-compare on reports with planted samples: what it prints and how it ends."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "planted", Path(__file__).parents[2] / "benchmarks" / "conftest.py"
)
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)


@pytest.fixture
def reports(tmp_path) -> dict[str, Path]:
    made = {}
    for name, median, seed in (("a", 20.0, 1), ("same", 20.0, 2), ("slow", 22.0, 3), ("fast", 18.0, 4)):
        rows = [planted.planted_row(planted.planted_samples(median, seed))]
        report = planted.planted_report(rows, planted.planted_samples(3.0, 9))
        made[name] = report.write(tmp_path / f"{name}.json")
    other = dataclasses.replace(report, machine={**report.machine, "gpu": "another"})
    made["other"] = other.write(tmp_path / "other.json")
    return made


@pytest.mark.parametrize(
    ("second", "status", "words"),
    [("same", 0, "no difference"), ("slow", 1, "1 of 1 cases became slower"), ("fast", 0, "faster")],
)
def test_statuses(second, status, words, reports, run) -> None:
    result = run("compare", reports["a"], reports[second])
    assert result.status == status
    assert words in result.out


def test_a_margin_lets_it_pass(reports, run) -> None:
    assert run("compare", reports["a"], reports["slow"], "--margin", "0.2").status == 0


def test_unlike_machines(reports, run) -> None:
    result = run("compare", reports["a"], reports["other"])
    assert result.status == 2
    assert "--anyway" in result.err
    result = run("compare", reports["a"], reports["other"], "--anyway")
    assert result.status == 0
    assert "Unlike machines: gpu None and 'another'" in result.out


def test_json(reports, run) -> None:
    result = run("compare", reports["a"], reports["slow"], "--json")
    found = json.loads(result.out)
    assert found["regressed"] is True
    assert found["cases"][0]["verdict"] == "slower"
    assert result.status == 1


def test_no_report(tmp_path, reports, run) -> None:
    result = run("compare", tmp_path / "none.json", reports["a"])
    assert result.status == 2
    assert result.err.count("\n") == 1
