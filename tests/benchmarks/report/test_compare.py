"""The comparison on planted samples: equal is equal, 5 % is found, a slower machine is no slower program."""

from __future__ import annotations

import dataclasses

import pytest

from glpn_deploy.benchmarks.options import CompareOptions
from glpn_deploy.benchmarks.report.compare import compare_reports
from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun
from glpn_deploy.errors import InputError
from tests.refusals import refused

PAIRS = 100
WANDERING = [  # rounds that lean on the one before, alone, or in blocks: by 1 and by 3 %
    {"wander": wander, **how} for wander in (0.01, 0.03) for how in ({}, {"block": 1}, {"block": 3})
]


def compared(
    samples, measured, row, report, seed: int, factor: float, machine: float, margin: float, how: dict
):
    """Two reports, the second's program slower by a factor, its machine by another."""
    reports = []
    for side, (change, speed) in enumerate(((1.0, 1.0), (factor, machine))):
        rounds = measured(20.0 * change * speed, seed=10 * seed + side, **how)
        unit = samples(3.0 * speed, seed=10 * seed + 5 + side, rounds=len(rounds), **how)
        reports.append(report([row(rounds)], calibration=unit))
    before, after = reports
    return compare_reports(before, after, CompareOptions(margin=margin))


def verdicts(
    samples, measured, row, report, factor: float, machine: float = 1.0, margin: float = 0.03, **how
):
    return [
        compared(samples, measured, row, report, seed, factor, machine, margin, how).cases[0].verdict
        for seed in range(PAIRS)
    ]


def share(found: list[str], verdict: str) -> float:
    return found.count(verdict) / len(found)


@pytest.mark.parametrize("how", WANDERING, ids=str)
def test_two_runs_of_the_same_are_no_different(how, samples, measured, row, report) -> None:
    assert share(verdicts(samples, measured, row, report, 1.0, **how), "no difference") >= 0.95


@pytest.mark.parametrize("how", WANDERING[:3], ids=str)
def test_without_a_margin_the_interval_alone_nearly_holds_the_promise(
    how, samples, measured, row, report
) -> None:
    assert share(verdicts(samples, measured, row, report, 1.0, margin=0.0, **how), "no difference") >= 0.9


@pytest.mark.parametrize("how", WANDERING[:3], ids=str)
@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "slower"), (1 / 1.05, "faster")])
def test_five_percent_are_found(factor, verdict, how, samples, measured, row, report) -> None:
    found = verdicts(samples, measured, row, report, factor, **how)
    assert share(found, verdict) >= 0.95
    assert share(found, {"slower": "faster", "faster": "slower"}[verdict]) == 0


def test_a_slower_machine_is_no_slower_program(samples, measured, row, report) -> None:
    found = verdicts(samples, measured, row, report, 1.0, machine=1.15)
    assert share(found, "no difference") >= 0.95


def test_a_slower_program_on_a_slower_machine_is_found(samples, measured, row, report) -> None:
    assert share(verdicts(samples, measured, row, report, 1.15, machine=1.15), "slower") >= 0.95


@pytest.mark.parametrize(
    ("factor", "machine", "words"),
    [
        (1.15, 1 / 1.15, "no difference in time, slower in units"),
        (1 / 1.15, 1.15, "no difference in time, faster in units"),
        (1.15, 1 / 1.4, "faster in time, slower in units"),
    ],
)
def test_a_machine_that_changed_hides_no_change_of_the_program(
    factor, machine, words, samples, measured, row, report
) -> None:
    found = compared(samples, measured, row, report, 3, factor, machine, 0.03, {})
    assert found.cases[0].verdict == "not judged"
    assert words in found.cases[0].note
    assert not found.passed
    assert share(verdicts(samples, measured, row, report, factor, machine), "not judged") >= 0.95


def test_unlike_machines_are_refused(samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    b = dataclasses.replace(a, machine={**a.machine, "processor": "4 cores"})
    with refused(InputError, got="processor: '2 cores' and '4 cores'", fix="--force"):
        compare_reports(a, b)
    assert compare_reports(a, b, CompareOptions(force=True)).unlike == {"processor": ("2 cores", "4 cores")}


def test_a_disturbed_case_is_not_judged(samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    reasons = {"load": "other processes took 0.5 of its cores"}
    b = report([row(samples(30.0, 2), stable=False, reasons=reasons)])
    found = compare_reports(a, b)
    assert found.cases[0].verdict == "not judged"
    assert "second report: other processes" in found.cases[0].note
    assert not found.passed
    assert not found.regressed
    assert compare_reports(a, b, CompareOptions(force=True)).regressed


@pytest.mark.parametrize(
    ("left_out", "note"),
    [
        (NotRun(CaseId(shape=(1, 96, 128)), "interrupted"), "not run: interrupted"),
        (NotRun(CaseId("torch", "fp32", (1, 96, 128)), "planted"), "not run: planted"),
        (NotRun(CaseId("torch", "fp32", (1, 96, 128)), "planted", "extras"), "the second report"),
        (NotRun(CaseId("torch", "fp16"), "planted"), "the second report"),
    ],
)
def test_a_case_that_is_gone_has_the_reason_that_is_its_own(left_out, note, samples, row, report) -> None:
    base = row(samples(20.0, 1))
    a = report([base, row(samples(9.0, 3), backend="torch")])
    found = compare_reports(a, report([base], not_run=(left_out,)))
    assert found.cases[1].verdict == "gone"
    assert found.cases[1].note.startswith(note)


def test_a_wide_interval_alone_is_judged_by_its_width(samples, row, report) -> None:
    wide = {"stable": False, "reasons": {"interval": "the median's interval is ±9 % wide"}}
    a, b = (report([row(samples(20.0, seed, wander=0.1), **wide)]) for seed in (1, 2))
    case = compare_reports(a, b).cases[0]
    assert case.verdict == "no difference"
    assert not case.proven


def test_cases_of_one_report_alone_and_other_versions(samples, row, report) -> None:
    gone = [row(samples(9.0, 3), backend=name) for name in ("torch", "openvino")]
    a = report([row(samples(20.0, 1)), *gone])
    b = dataclasses.replace(
        report([row(samples(20.0, 2)), row(samples(20.0, 2), backend="new")]),
        versions={"python": "3.12.0", "onnxruntime": "2"},
    )
    found = compare_reports(a, b)
    assert [case.verdict for case in found.cases] == ["no difference", "gone", "gone"]
    assert found.cases[1].note == "not run: torch is not installed"
    assert found.cases[2].note == "the second report does not have it"
    assert not found.passed
    assert found.only_second == ("new fp32 1x96x128",)
    assert found.versions == {"onnxruntime": ("1.20.0", "2")}
    with refused(InputError, got="share no case"):
        compare_reports(a, report([row(samples(1.0, 1), batch=9)]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": "2" * 64}, "checkpoint: "),
        ({"images": ["1.png"]}, r"images: \['0.png'\] and \['1.png'\]"),
        ({"images_sha256": "2" * 64}, "images_sha256: "),
    ],
)
def test_another_checkpoint_or_images_are_refused(change, words, samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    b = dataclasses.replace(a, source={**a.source, **change})
    with pytest.raises(InputError, match=words):
        compare_reports(a, b)
    assert compare_reports(a, b, CompareOptions(force=True)).unlike.keys() == change.keys()


def test_another_bundle_of_the_checkpoint_is_noted(samples, row, report) -> None:
    a = report([row(samples(20.0, 1))])
    old, new = (dataclasses.replace(a, source={**a.source, "manifest_sha256": digit * 64}) for digit in "34")
    assert compare_reports(old, new).bundles == ("glpn-tiny (333333333333)", "glpn-tiny (444444444444)")
    assert compare_reports(old, old).bundles is None
    assert compare_reports(a, new).bundles is None  # the first is of a time when reports did not know
    other = dataclasses.replace(a, source={**a.source, "bundle": "other"})
    assert compare_reports(a, other).bundles == ("glpn-tiny", "other")
