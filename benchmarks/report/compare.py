"""Two reports: which cases became faster or slower, which did not change, and which are gone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from glpn_deploy.benchmarks.measuring.latency_stats import Ratio, ratio_of_medians, round_medians
from glpn_deploy.benchmarks.options import CompareOptions
from glpn_deploy.benchmarks.report.results import Report, Row, Samples
from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun
from glpn_deploy.errors import InputError

Verdict = Literal["faster", "slower", "no difference", "not judged", "gone"]
_DISTURBED = ("rounds", "drift", "load", "stolen", "throttled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseComparison:
    """One case of both reports.

    Attributes:
        key: The case.
        verdict: Whether its time changed in the second report; ``gone`` where it is not in there.
        ratio: Its time in the second report in units of the first's, or None where it was not judged.
        relative: The same with both times in units of the matrix product in the same rounds; or None.
        proven: Of "no difference": whether the interval excludes a change beyond the margin.
        note: What to know about it.
    """

    key: str
    verdict: Verdict
    ratio: Ratio | None = None
    relative: Ratio | None = None
    proven: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two reports beside each other.

    Attributes:
        cases: Those of the first.
        only_second: Cases of the second alone.
        machine: Time of the matrix product in the second report in units of the first's, or None.
        machine_changed: Whether the machine itself ran at another speed.
        versions: Packages whose version differs: from, to.
        unlike: How machines, checkpoints or images differ, where ``force`` compared them.
        bundles: The two bundles, where they are not the same one.
        margin: As asked.
    """

    cases: tuple[CaseComparison, ...]
    only_second: tuple[str, ...]
    machine: Ratio | None
    machine_changed: bool
    versions: dict[str, tuple[str | None, str | None]]
    unlike: dict[str, tuple[Any, Any]]
    bundles: tuple[str, str] | None
    margin: float

    @property
    def regressed(self) -> bool:
        """Whether a case became slower by more than the margin."""
        return self.count("slower") > 0

    @property
    def passed(self) -> bool:
        """Whether every case of the first report was judged, and none became slower."""
        return all(case.verdict in ("faster", "no difference") for case in self.cases)

    def count(self, verdict: Verdict) -> int:
        """How many cases came to a verdict."""
        return sum(case.verdict == verdict for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"passed": self.passed, "regressed": self.regressed, **dataclasses.asdict(self)}


def compare_reports(first: Report, second: Report, options: CompareOptions = CompareOptions()) -> Comparison:
    """Compares the second report with the first, case by case.

    A case is slower (or faster) when the 95 % interval of the ratio of its medians leaves out 1 and the
    ratio itself is beyond the margin. Where the matrix product that ran in the same rounds says that the
    machine itself changed its speed, the same must hold in units of that product: a slow-down which the
    machine shows too is not the program's, and where time and these units contradict each other, the case
    cannot be judged.

    Raises:
        InputError: Machine, checkpoint or images are unlike, or the reports share no case.
    """
    unlike = _differences(first.machine, second.machine) | _unlike_sources(first.source, second.source)
    if unlike and not options.force:
        words = "; ".join(f"{name}: {a!r} and {b!r}" for name, (a, b) in unlike.items())
        raise InputError(
            f"the reports are not of the same thing ({words})",
            expected="the same machine and settings, checkpoint and images",
            fix="measure both alike, or pass --force",
        )
    rows = {row.id: row for row in second.rows}
    if not any(row.id in rows for row in first.rows):
        names = [", ".join(row.key for row in report.rows) for report in (first, second)]
        raise InputError(
            f"the reports share no case ({' and '.join(names)})",
            fix="measure the same backends, precisions, shapes and batches",
        )
    machine, changed = _machine(first.calibration, second.calibration, options.margin)
    units = first.calibration, second.calibration
    cases = tuple(
        _judge(row, rows[row.id], *units, changed, options)
        if row.id in rows
        else CaseComparison(key=row.key, verdict="gone", note=_why_gone(row.id, second.not_run))
        for row in first.rows
    )
    before = {row.id for row in first.rows}
    return Comparison(
        cases=cases,
        only_second=tuple(row.key for row in second.rows if row.id not in before),
        machine=machine,
        machine_changed=changed,
        versions=_differences(first.versions, second.versions),
        unlike=unlike,
        bundles=_bundles(first.source, second.source),
        margin=options.margin,
    )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)
    }


def _unlike_sources(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs of checkpoint and images; images of the same names by their digest, where both have it."""
    names = ["checkpoint", "images"]
    if a.get("images") == b.get("images") and "images_sha256" in a.keys() & b.keys():
        names.append("images_sha256")
    return _differences(*({name: source.get(name) for name in names} for source in (a, b)))


def _bundles(a: dict[str, Any], b: dict[str, Any]) -> tuple[str, str] | None:
    """Names and, where both have it, first digits of their manifests' digests; None where they are one."""
    both = "manifest_sha256" in a.keys() & b.keys()
    first, second = (
        f"{one.get('bundle')} ({str(one['manifest_sha256'])[:12]})" if both else str(one.get("bundle"))
        for one in (a, b)
    )
    return None if first == second else (first, second)


def _why_gone(case: CaseId, not_run: Sequence[NotRun]) -> str:
    reasons = [item.reason for item in not_run if item.part == "latency" and item.case.covers(case)]
    return f"not run: {'; '.join(reasons)}" if reasons else "the second report does not have it"


def _machine(a: Samples, b: Samples, margin: float) -> tuple[Ratio | None, bool]:
    """The matrix product's ratio, and whether it surely changed by half the margin."""
    if not a or not b:
        return None, False
    ratio = ratio_of_medians(round_medians(b), round_medians(a))
    return ratio, _beyond(ratio, margin / 2) is not None


def _beyond(ratio: Ratio, margin: float) -> Literal["faster", "slower"] | None:
    """Whether a ratio of times surely differs from 1, and by more than the margin."""
    found = _leans(ratio, margin)
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return None
    return found


def _leans(ratio: Ratio, margin: float) -> Literal["faster", "slower"] | None:
    """Whether a ratio of times differs from 1 by more than the margin, surely or not."""
    return "slower" if ratio.value > 1 + margin else "faster" if ratio.value < 1 / (1 + margin) else None


def _judge(
    a: Row, b: Row, unit_a: Samples, unit_b: Samples, machine_changed: bool, options: CompareOptions
) -> CaseComparison:
    if a.device != b.device:
        note = f"it ran on {a.device} and on {b.device}"
        return CaseComparison(key=a.key, verdict="not judged", note=note)
    disturbed = [
        f"{which} report: {words}"
        for which, row in (("first", a), ("second", b))
        for kind, words in row.reasons.items()
        if kind in _DISTURBED
    ]
    ratio = ratio_of_medians(round_medians(b.samples), round_medians(a.samples))
    relative = None
    shared_a, shared_b = a.samples.keys() & unit_a.keys(), b.samples.keys() & unit_b.keys()
    if shared_a and shared_b:
        relative = ratio_of_medians(_in_units(b.samples, unit_b), _in_units(a.samples, unit_a))
    found = CaseComparison(
        key=a.key, verdict="not judged", ratio=ratio, relative=relative, note="; ".join(disturbed)
    )
    if disturbed and not options.force:
        return found
    verdict, note = _beyond(ratio, options.margin), found.note
    if machine_changed and relative is not None:
        shown, leaning = _beyond(relative, options.margin), _leans(relative, options.margin)
        if verdict is not None and leaning is None:
            note, verdict = f"{verdict}, but so is the machine itself", None
        elif shown != verdict:
            how = leaning if shown else f"perhaps {leaning}"
            note = f"{verdict or 'no difference'} in time, {how} in units of the matrix product: "
            note += "the machine changed its speed"
            if not options.force:
                return dataclasses.replace(found, note=note)
    if verdict is not None:
        return dataclasses.replace(found, verdict=verdict, note=note)
    low, high = ratio.low or 0.0, ratio.high or math.inf
    proven = low >= 1 / (1 + options.margin) and high <= 1 + options.margin
    return dataclasses.replace(found, verdict="no difference", proven=proven, note=note)


def _in_units(samples: Samples, unit: Samples) -> list[float]:
    """Each round's median in units of the matrix product's in the same round."""
    shared = sorted(samples.keys() & unit.keys())
    times = round_medians({number: samples[number] for number in shared})
    units = round_medians({number: unit[number] for number in shared})
    return [time / one for time, one in zip(times, units, strict=True)]
