"""glpn-compare on reports with planted samples: what it prints and how it ends."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.benchmarks import conftest as planted


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


def test_a_case_that_is_gone_fails(reports, run, tmp_path) -> None:
    values = json.loads(reports["a"].read_text())
    values["rows"].append({**values["rows"][0], "backend": "torch"})
    more = tmp_path / "more.json"
    more.write_text(json.dumps(values))
    result = run("compare", more, reports["same"])
    assert result.status == 1
    assert "torch fp32 1x96x128: not run: torch is not installed" in result.out
    assert "1 of 2 cases are gone from the second report" in result.out
    assert "Nothing became slower" not in result.out
    result = run("compare", reports["same"], more)
    assert result.status == 0
    assert "only in the second: torch fp32 1x96x128" in result.out


def test_a_faster_machine_hides_no_slower_program(reports, run, tmp_path) -> None:
    rows = [planted.planted_row(planted.planted_samples(20.0, 2, wander=0.003))]
    paths = [
        planted.planted_report(rows, planted.planted_samples(median, 9, wander=0.003)).write(
            tmp_path / f"{median}.json"
        )
        for median in (3.0, 3.0 / 1.15)
    ]
    result = run("compare", *paths)
    assert result.status == 1
    assert "no difference in time, slower in units of the matrix product" in result.out
    assert "1 of 1 cases could not be judged" in result.out
    assert run("compare", *paths, "--force").status == 0


def test_another_checkpoint_and_another_bundle(reports, run, tmp_path) -> None:
    values = json.loads(reports["a"].read_text())
    other = tmp_path / "changed.json"
    other.write_text(json.dumps({**values, "source": {**values["source"], "checkpoint": "f" * 64}}))
    result = run("compare", reports["a"], other)
    assert result.status == 2
    assert "checkpoint" in result.err
    other.write_text(json.dumps({**values, "source": {**values["source"], "bundle": "new"}}))
    result = run("compare", reports["a"], other)
    assert result.status == 0
    assert "Not the same bundle: glpn-tiny and new" in result.out


def test_a_margin_lets_it_pass(reports, run) -> None:
    assert run("compare", reports["a"], reports["slow"], "--margin", "0.2").status == 0


def test_unlike_machines(reports, run) -> None:
    result = run("compare", reports["a"], reports["other"])
    assert result.status == 2
    assert "--force" in result.err
    result = run("compare", reports["a"], reports["other"], "--anyway")
    assert result.status == 0
    assert "Unlike: gpu None and 'another'" in result.out


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
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps({**json.loads(reports["a"].read_text()), "machine": None}))
    result = run("compare", reports["a"], damaged)
    assert result.status == 2
    assert "damaged.json is damaged" in result.err
