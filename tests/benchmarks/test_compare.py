"""The comparison on planted samples: equal is equal, 5 % is found, a slower machine is no slower program."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks.compare import CompareOptions, compare_reports
from glpn_deploy.errors import InputError

PAIRS = 200


def verdicts(samples, row, report, factor: float, machine: float = 1.0, margin: float = 0.03) -> list[str]:
    found = []
    for seed in range(PAIRS):
        reports = [
            report(
                [row(samples(20.0 * change * speed, seed=10 * seed + side))],
                calibration=samples(3.0 * speed, seed=10 * seed + 5 + side),
            )
            for side, (change, speed) in enumerate(((1.0, 1.0), (factor, machine)))
        ]
        found.append(compare_reports(*reports, CompareOptions(margin)).cases[0].verdict)
    return found


def share(found: list[str], verdict: str) -> float:
    return found.count(verdict) / len(found)


def test_two_runs_of_the_same_are_no_different(samples, row, report) -> None:
    assert share(verdicts(samples, row, report, 1.0), "no difference") >= 0.95


def test_even_without_a_margin(samples, row, report) -> None:
    """Then it is the interval alone that holds the promise, on rounds that hang together."""
    assert share(verdicts(samples, row, report, 1.0, margin=0.0), "no difference") >= 0.9


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "slower"), (1 / 1.05, "faster")])
def test_five_percent_are_found(factor, verdict, samples, row, report) -> None:
    found = verdicts(samples, row, report, factor)
    assert share(found, verdict) >= 0.95
    assert share(found, {"slower": "faster", "faster": "slower"}[verdict]) == 0


def test_a_slower_machine_is_no_slower_program(samples, row, report) -> None:
    found = verdicts(samples, row, report, 1.0, machine=1.15)
    assert share(found, "no difference") >= 0.95


def test_a_slower_program_on_a_slower_machine_is_found(samples, row, report) -> None:
    assert share(verdicts(samples, row, report, 1.15, machine=1.15), "slower") >= 0.95


def test_unlike_machines_are_refused(samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    b = dataclasses.replace(a, machine={**a.machine, "processor": "4 cores"})
    with pytest.raises(InputError, match=r"processor: '2 cores' and '4 cores'.*--anyway"):
        compare_reports(a, b)
    assert compare_reports(a, b, CompareOptions(anyway=True)).unlike == {"processor": ("2 cores", "4 cores")}


def test_a_disturbed_case_is_not_judged(samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    reasons = {"load": "other processes took 0.5 of its cores"}
    b = report([row(samples(30.0, 2), stable=False, reasons=reasons)])
    found = compare_reports(a, b)
    assert found.cases[0].verdict == "not judged"
    assert "second report: other processes" in found.cases[0].note
    assert not found.judged
    assert not found.regressed
    assert compare_reports(a, b, CompareOptions(anyway=True)).regressed


def test_a_wide_interval_alone_is_judged_by_its_width(samples, row, report) -> None:
    wide = {"stable": False, "reasons": {"interval": "the median's interval is ±9 % wide"}}
    a, b = (report([row(samples(20.0, seed, wander=0.1), **wide)]) for seed in (1, 2))
    case = compare_reports(a, b).cases[0]
    assert case.verdict == "no difference"
    assert not case.proven


def test_cases_of_one_report_alone_and_other_versions(samples, row, report) -> None:
    a = report([row(samples(20.0, 1)), row(samples(9.0, 3), key="torch fp32 1x96x128")])
    b = dataclasses.replace(
        report([row(samples(20.0, 2))]), versions={"python": "3.12.0", "onnxruntime": "2"}
    )
    found = compare_reports(a, b)
    assert found.only_first == ("torch fp32 1x96x128",)
    assert found.versions == {"onnxruntime": ("1.20.0", "2")}
    with pytest.raises(InputError, match="share no case"):
        compare_reports(a, report([row(samples(1.0, 1), key="null fp32 1x1x1")]))
