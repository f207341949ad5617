"""Equal and slowed runs, planted, and what is counted of them; one slowed worker in a process of its own."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from glpn_deploy.benchmarks.claims import aa
from glpn_deploy.benchmarks.options import CompareOptions
from glpn_deploy.benchmarks.workload.cases import Case


@pytest.mark.slow
def test_a_slow_worker_takes_its_share_longer(tmp_path) -> None:
    """Its calls take half as long again as the network's 20 ms, which cannot take less."""
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    case = Case(
        backend="null",
        precision="fp32",
        batch=1,
        height=32,
        width=32,
        images=(str(tmp_path / "0.png"),),
        delay_ms=20.0,
    )
    with aa.start_slow(case, 0.5) as process:
        process.ask("load", case=dataclasses.asdict(case))
        assert min(process.ask("run", runs=5, warm_up=0, turn=0)["samples_ms"]) >= 30


def test_verdicts_on_equal_and_on_slowed_runs_are_counted(measured, row, report) -> None:
    """Twenty pairs whose slow-down is 10 %, with samples as they come."""
    seeds = iter(range(1000))

    def sweep(share: float):
        return report([row(measured(20.0 * (1 + share), next(seeds)))])

    found = aa.count_verdicts(sweep, 20, 0.1, CompareOptions(force=True))
    assert found["pairs"] == 20
    assert found["false_share"] <= 0.05
    assert found["found_share"] >= 0.95
    assert aa.passes(found)
    assert sorted(found["planted"]["ratios"])[10] == pytest.approx(1.1, abs=0.02)


def test_a_benchmark_that_finds_nothing_fails(measured, row, report) -> None:
    runs = [report([row(measured(20.0, seed))]) for seed in range(3)]
    found = aa.count_verdicts(lambda share: runs[0], 1, 0.1, CompareOptions())
    assert found["planted"]["no difference"] == 1
    assert (found["false_share"], found["found_share"]) == (0, 0)
    assert not aa.passes(found)


@pytest.mark.parametrize(
    ("false", "right", "passed"),
    [(0.05, 0.95, True), (0.1, 1.0, False), (0.0, 0.9, False), (None, 1.0, False), (0.0, None, False)],
)
def test_how_many_wrong_verdicts_pass(false, right, passed) -> None:
    assert aa.passes({"false_share": false, "found_share": right}) is passed


def test_the_command_passes_its_options_on(call, tiny_bundle, monkeypatch, capsys) -> None:
    found, asked = {"false_share": 0.05, "found_share": 0.95}, []

    def planted(*arguments: object) -> dict[str, float]:
        asked.extend(arguments[1:])
        return found

    monkeypatch.setattr(aa, "count_verdicts", planted)
    assert call(aa.main, tiny_bundle, "--pairs", 3, "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out) == found
    assert asked == [3, 0.05, CompareOptions(force=True)]
    found["found_share"] = 0.9
    assert call(aa.main, tiny_bundle) == 1


def test_wrong_use(call, tmp_path, capsys) -> None:
    assert call(aa.main, tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert call(aa.main, tmp_path, "--size", "480") == 2


def test_the_null_backend_is_measured_where_no_other_is_named(call, tiny_bundle, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(aa, "run_sweep", lambda bundle, options, start: asked.append(options))
    monkeypatch.setattr(aa, "compare_reports", lambda *reports: SimpleNamespace(cases=()))
    assert call(aa.main, tiny_bundle, "--pairs", 1) == 1  # nothing could be judged
    assert (asked[0].backends, asked[0].precisions, asked[0].stages) == (("null",), ("fp32",), False)
    assert call(aa.main, tiny_bundle, "--pairs", 1, "--backend", "onnxruntime") == 1
    assert asked[-1].backends == ("onnxruntime",)
