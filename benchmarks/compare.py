"""Two reports: which cases became faster or slower, and which did not change."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from glpn_deploy.benchmarks.latency_stats import Ratio, ratio_of_medians, round_medians
from glpn_deploy.benchmarks.results import Report, Row, Samples
from glpn_deploy.errors import InputError

Verdict = Literal["faster", "slower", "no difference", "not judged"]
_DISTURBED = ("rounds", "drift", "load", "stolen", "throttled")


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """How two reports are compared.

    Attributes:
        margin: A change of time below this share does not count, however sure it is.
        anyway: Also compare unlike machines, and judge cases that were disturbed.

    Raises:
        InputError: The margin is not between 0 and 1.
    """

    margin: float = 0.03
    anyway: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise InputError(f"a margin of {self.margin}", expected="a share from 0 to 1, such as 0.03")


@dataclasses.dataclass(frozen=True)
class CaseComparison:
    """One case of both reports.

    Attributes:
        key: The case.
        verdict: What became of it in the second report.
        ratio: Its time in the second report in units of the first's, or None where it was not judged.
        relative: The same with both times in units of the matrix product in the same rounds; or None.
        proven: Of "no difference": whether the interval excludes a change beyond the margin.
        note: What to know about it.
    """

    key: str
    verdict: Verdict
    ratio: Ratio | None
    relative: Ratio | None
    proven: bool
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two reports beside each other.

    Attributes:
        cases: Those in both.
        only_first: Cases of the first alone.
        only_second: Cases of the second alone.
        machine: Time of the matrix product in the second report in units of the first's, or None.
        machine_changed: Whether the machine itself ran at another speed.
        versions: Packages whose version differs: from, to.
        unlike: How the machines differ, where they were compared anyway.
        margin: As asked.
    """

    cases: tuple[CaseComparison, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    machine: Ratio | None
    machine_changed: bool
    versions: dict[str, tuple[str | None, str | None]]
    unlike: dict[str, tuple[Any, Any]]
    margin: float

    @property
    def regressed(self) -> bool:
        """Whether a case became slower by more than the margin."""
        return any(case.verdict == "slower" for case in self.cases)

    @property
    def judged(self) -> bool:
        """Whether any case could be judged."""
        return any(case.verdict != "not judged" for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"regressed": self.regressed, "judged": self.judged, **dataclasses.asdict(self)}


def compare_reports(first: Report, second: Report, options: CompareOptions = CompareOptions()) -> Comparison:
    """Compares the second report with the first, case by case.

    A case is slower (or faster) when the 95 % interval of the ratio of its medians leaves out 1 and the
    ratio itself is beyond the margin. Where the matrix product that ran in the same rounds says that the
    machine itself changed its speed, the same must hold in units of that product: a slow-down which the
    machine shows too is not the program's.

    Raises:
        InputError: The machines are unlike, or the reports share no case.
    """
    unlike = _differences(first.machine, second.machine)
    if unlike and not options.anyway:
        words = "; ".join(f"{name}: {a!r} and {b!r}" for name, (a, b) in unlike.items())
        raise InputError(
            f"the reports are of unlike machines ({words})",
            expected="the same machine and settings",
            fix="measure both on one machine, or pass --anyway",
        )
    rows = {row.key: row for row in first.rows}, {row.key: row for row in second.rows}
    shared = [key for key in rows[0] if key in rows[1]]
    if not shared:
        raise InputError(
            f"the reports share no case ({', '.join(rows[0])} and {', '.join(rows[1])})",
            fix="measure the same backends, precisions, shapes and batches",
        )
    machine, changed = _machine(first.calibration, second.calibration, options.margin)
    cases = tuple(
        _judge(rows[0][key], rows[1][key], first.calibration, second.calibration, changed, options)
        for key in shared
    )
    return Comparison(
        cases,
        tuple(key for key in rows[0] if key not in rows[1]),
        tuple(key for key in rows[1] if key not in rows[0]),
        machine,
        changed,
        _differences(first.versions, second.versions),
        unlike,
        options.margin,
    )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)
    }


def _machine(a: Samples, b: Samples, margin: float) -> tuple[Ratio | None, bool]:
    """The matrix product's ratio, and whether it surely changed by half the margin."""
    if not a or not b:
        return None, False
    ratio = ratio_of_medians(round_medians(b), round_medians(a))
    return ratio, _beyond(ratio, margin / 2) is not None


def _beyond(ratio: Ratio, margin: float) -> Literal["faster", "slower"] | None:
    """Whether a ratio of times surely differs from 1, and by more than the margin."""
    if ratio.low is None or ratio.high is None:
        return None
    if ratio.low > 1 and ratio.value > 1 + margin:
        return "slower"
    if ratio.high < 1 and ratio.value < 1 / (1 + margin):
        return "faster"
    return None


def _judge(
    a: Row, b: Row, unit_a: Samples, unit_b: Samples, machine_changed: bool, options: CompareOptions
) -> CaseComparison:
    if a.device != b.device:
        return CaseComparison(
            a.key, "not judged", None, None, False, f"it ran on {a.device} and on {b.device}"
        )
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
    if disturbed and not options.anyway:
        return CaseComparison(a.key, "not judged", ratio, relative, False, "; ".join(disturbed))
    verdict = _beyond(ratio, options.margin)
    note = "; ".join(disturbed)
    shown = relative is not None and _beyond(relative, options.margin) == verdict
    if verdict is not None and machine_changed and relative is not None and not shown:
        note = f"{verdict}, but so is the machine itself"
        verdict = None
    if verdict is not None:
        return CaseComparison(a.key, verdict, ratio, relative, False, note)
    low, high = ratio.low or 0.0, ratio.high or math.inf
    proven = low >= 1 / (1 + options.margin) and high <= 1 + options.margin
    return CaseComparison(a.key, "no difference", ratio, relative, proven, note)


def _in_units(samples: Samples, unit: Samples) -> list[float]:
    """Each round's median in units of the matrix product's in the same round."""
    shared = sorted(samples.keys() & unit.keys())
    times = round_medians({number: samples[number] for number in shared})
    units = round_medians({number: unit[number] for number in shared})
    return [time / one for time, one in zip(times, units, strict=True)]
