"""What a comparison of two runs found: cases, their flags, errors by depth range and the worst image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.depth.error_stats import FLAGS, ErrorStats, Flag, RangeStats, pool_ranges
from glpn_deploy.errors import ParityError
from glpn_deploy.proof.checks.budget import Budget


@dataclasses.dataclass(frozen=True)
class ParityCase:
    """One batch.

    Attributes:
        shape: (batch, height, width).
        passed: Whether it is within the limit and nothing is flagged.
        flags: What is broken at sight; see `glpn_deploy.depth.error_stats.depth_flags`.
    """

    name: str
    shape: tuple[int, int, int]
    stats: ErrorStats
    passed: bool
    flags: tuple[Flag, ...] = ()
    by_range: tuple[RangeStats, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "passed": self.passed,
            "flags": list(self.flags),
            **self.stats.to_dict(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class WorstImage:
    """The image of a comparison that is worth looking at; see `shown_first`.

    Attributes:
        pixel_values: The input, (3, H, W) float32, 0 to 1.
        reference: The reference's depth, (H, W) [m].
        candidate: The candidate's depth, (H, W) [m].
    """

    case: ParityCase
    name: str
    pixel_values: NDArray[np.float32]
    reference: NDArray[np.float32]
    candidate: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        reference: Backend, device and precision of the reference.
        candidate: The same of what was compared.
        limit: The errors allowed.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    limit: Budget
    cases: tuple[ParityCase, ...]
    worst_image: WorstImage | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every case passed (and there is one)."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def worst(self) -> ParityCase:
        """The case that uses up most of its limit; one with a flag is worse than any without."""
        return max(self.cases, key=lambda case: severity(self.limit, case.stats, case.flags))

    @property
    def by_range(self) -> tuple[RangeStats, ...]:
        """The errors of all cases by depth range of the reference; see `pool_ranges`."""
        return pool_ranges(case.by_range for case in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {
            "passed": self.passed,
            "reference": self.reference,
            "candidate": self.candidate,
            "tolerance_m": self.limit.max_abs_m,
            "max_abs_rel": self.limit.max_abs_rel,
            "max_abs_m": self.worst.stats.to_dict()["max_abs_m"] if self.cases else None,
            "by_range": {part.name: part.to_dict() for part in self.by_range},
            "cases": [case.to_dict() for case in self.cases],
        }

    def require(self) -> None:
        """Raises where the candidate failed."""
        if self.passed:
            return
        if not self.cases:
            raise ParityError("nothing was compared", expected="at least one batch")
        worst, failed = self.worst, sum(not case.passed for case in self.cases)
        if worst.stats.non_finite:
            moved = "and is not finite"
        elif self.limit.max_abs_rel is not None:
            moved = f"by AbsRel {worst.stats.abs_rel:.3g} and up to {worst.stats.max_abs_m:.3g} m"
        else:
            moved = f"by up to {worst.stats.max_abs_m:.3g} m"
        flags = f": {describe_flags(worst.flags)}" if worst.flags else ""
        raise ParityError(
            f"the depth of {self.candidate['backend']} {self.candidate['precision']} differs {moved}"
            f"{flags} ({worst.name}, {failed} of {len(self.cases)} cases)",
            expected=f"{self.limit} from {self.reference['backend']}",
            fix="do not deploy it; "
            + (
                "export it again with a calibration or a budget that fits"
                if self.limit.max_abs_rel is not None
                else "try another --opset or another version of the backend"
            ),
        )


def severity(limit: Budget, stats: ErrorStats, flags: Sequence[Flag] = ()) -> tuple[float, float]:
    """A key that sorts what is worse behind what is better: the share of the limit used up, then metres."""
    pairs = [(stats.abs_rel, limit.max_abs_rel), (stats.max_abs_m, limit.max_abs_m)]
    shares = [error / most for error, most in pairs if most is not None]
    return (math.inf if flags else max(shares)), stats.max_abs_m


def shown_first(limit: Budget, case: ParityCase) -> tuple[bool, bool, tuple[float, float]]:
    """A key that sorts what is worth looking at behind the rest.

    That is what failed, then what has a photograph's shape (a strip of 32 px shows little), then the worst.
    """
    short, long = sorted(case.shape[1:])
    return not case.passed, short >= 96 and long <= 2 * short, severity(limit, case.stats, case.flags)


def describe_flags(flags: Sequence[Flag]) -> str:
    """The flags in words."""
    return ", ".join(FLAGS[flag] for flag in flags)


def millimetres(error_m: float) -> str:
    """An error [m] for people."""
    return f"{1000 * error_m:,.0f} mm" if error_m >= 0.1 else f"{1000 * error_m:.2g} mm"


def worst_of(reports: Sequence[ParityReport]) -> tuple[ParityReport, ParityCase]:
    """The case of several reports that uses up most of its limit, and its report."""
    return max(
        ((report, report.worst) for report in reports if report.cases),
        key=lambda item: severity(item[0].limit, item[1].stats, item[1].flags),
    )


def describe_worst(report: ParityReport, case: ParityCase) -> str:
    """How far a case is off, and what is allowed."""
    flags = f", {describe_flags(case.flags)}" if case.flags else ""
    off = "not finite" if case.stats.non_finite else f"{millimetres(case.stats.max_abs_m)} off"
    if report.limit.max_abs_m is not None:
        off += f" ({millimetres(report.limit.max_abs_m)} allowed)"
    if report.limit.max_abs_rel is not None:
        off += f", AbsRel {case.stats.abs_rel:.2g} ({report.limit.max_abs_rel:g} allowed)"
    return f"{case.name}: {off}{flags}"


def conclude(step: progress.Step, reports: Sequence[ParityReport]) -> None:
    """Ends the step in which these comparisons were made, with their worst case."""
    if not any(report.cases for report in reports):
        return
    batches = sum(len(report.cases) for report in reports)
    told = f"{batches} batch{'' if batches == 1 else 'es'}, worst {describe_worst(*worst_of(reports))}"
    (step.finish if all(report.passed for report in reports) else step.fail)(told)


def describe_case(case: ParityCase) -> str:
    """One line: what was run and how far it was off."""
    mark = "✓" if case.passed else "✗"
    flags = f", {describe_flags(case.flags)}" if case.flags else ""
    return f"{mark} {case.name}: max {case.stats.max_abs_m:.2g} m{flags}"


def summary(report: ParityReport) -> str:
    """One line: how many cases passed and the worst difference."""
    if not report.cases:
        return "nothing was compared"
    passed, worst = sum(case.passed for case in report.cases), report.worst
    flags = f" ({describe_flags(worst.flags)})" if worst.flags else ""
    if report.limit.max_abs_rel is None:
        most, figure = f"{report.limit.max_abs_m:.2g} m", f"{worst.stats.max_abs_m:.2g} m"
    else:
        most, figure = f"AbsRel {report.limit.max_abs_rel:.2g}", f"{worst.stats.abs_rel:.2g}"
    return f"{passed} of {len(report.cases)} within {most}, worst {figure} at {worst.name}{flags}"
