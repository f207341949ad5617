"""Equal and slowed runs of the null backend, each case in its own process, and what is counted of them."""

from __future__ import annotations

import json

import pytest

from glpn_deploy.benchmarks.claims.aa import SlowWorker, count_verdicts, main
from glpn_deploy.benchmarks.measuring.rounds import RoundOptions
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.compare import CompareOptions
from glpn_deploy.benchmarks.workload.cases import Case

QUICK = BenchOptions(
    backends=("null",),
    shapes=((32, 32),),
    rounds=RoundOptions(half_width=0.5, seconds=1.0, fewest=6),
    stages=False,
    null_delay_ms=20.0,
)


def test_a_slow_worker_takes_its_share_longer(tmp_path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    case = Case("null", "fp32", 1, 32, 32, images=(str(tmp_path / "0.png"),), delay_ms=20.0)
    worker = SlowWorker(0.5)
    worker.answer({"do": "load", "case": case.to_dict()})
    samples = worker.answer({"do": "run", "runs": 5, "warm_up": 0, "turn": 0})["samples_ms"]
    assert min(samples) >= 30
    assert sorted(samples)[2] == pytest.approx(30, rel=0.1)


@pytest.mark.slow
def test_a_pair_and_a_slow_run_of_real_processes(tiny_bundle) -> None:
    found = count_verdicts(tiny_bundle, QUICK, 1, 0.25, CompareOptions(anyway=True))
    assert found["pairs"] == 1
    assert found["equal"]["ratios"] == [pytest.approx(1, abs=0.05)]
    assert found["planted"]["ratios"] == [pytest.approx(1.25, abs=0.05)]
    assert found["false_share"] in (0, 1)


def test_the_command_counts_and_fails_where_the_word_is_not_kept(tiny_bundle, monkeypatch, capsys) -> None:
    asked = []
    found = {"false_share": 0.05, "found_share": 0.95}

    def planted(*arguments: object) -> dict[str, float]:
        asked.append(arguments)
        return found

    monkeypatch.setattr("glpn_deploy.benchmarks.claims.aa.count_verdicts", planted)
    assert main([str(tiny_bundle), "--pairs", "3", "--size", "32x64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    _, options, pairs, share, _ = asked[0]
    assert (options.shapes, pairs, share) == (((32, 64),), 3, 0.05)
    for change in ({"false_share": 0.1}, {"found_share": 0.9}, {"false_share": None}, {"found_share": None}):
        found = {"false_share": 0.0, "found_share": 1.0, **change}
        assert main([str(tiny_bundle)]) == 1


def test_wrong_use(tmp_path, capsys) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--size", "480"])
