"""What a verification found, of one artefact, one engine or a whole bundle."""

from __future__ import annotations

import dataclasses
from typing import Any

from glpn_deploy.errors import ParityError
from glpn_deploy.proof.parity_report import ParityReport, WorstImage, shown_first
from glpn_deploy.proof.polygraphy_check import PolygraphyReport


@dataclasses.dataclass(frozen=True)
class NotRun:
    """An artefact, or a part of its check, that this machine cannot do."""

    file: str
    precision: str
    reason: str


@dataclasses.dataclass(frozen=True)
class BrokenEngine:
    """An engine that no machine should open."""

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        broken: TensorRT engines that are damaged or not of this bundle.
        fits: Whether an engine was built for this machine, and opens.
    """

    reports: tuple[ParityReport, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    polygraphy: tuple[PolygraphyReport, ...] = ()
    broken: tuple[BrokenEngine, ...] = ()
    fits: bool = False
    max_depth: float = 0.0

    def __add__(self, other: Verification) -> Verification:
        """What was found of both."""
        return Verification(
            self.reports + other.reports,
            self.not_run + other.not_run,
            self.polygraphy + other.polygraphy,
            self.broken + other.broken,
            self.fits or other.fits,
            self.max_depth or other.max_depth,
        )

    @property
    def passed(self) -> bool:
        """Whether all that was run passed, Polygraphy agrees, and no engine is broken."""
        agreed = all(opinion.agrees for opinion in self.polygraphy)
        return all(report.passed for report in self.reports) and agreed and not self.broken

    @property
    def complete(self) -> bool:
        """Whether all could be checked here."""
        return not self.not_run

    @property
    def worst_image(self) -> tuple[ParityReport, WorstImage] | None:
        """The image to look at, of the report that comes first in it, or None where nothing was run."""
        found = [(report, report.worst_image) for report in self.reports if report.worst_image is not None]
        return max(found, key=lambda item: shown_first(item[0].limit, item[1].case), default=None)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "passed": self.passed,
            "complete": self.complete,
            "reports": [report.to_dict() for report in self.reports],
            "not_run": [dataclasses.asdict(item) for item in self.not_run],
            "polygraphy": [opinion.to_dict() for opinion in self.polygraphy],
            "broken": [dataclasses.asdict(engine) for engine in self.broken],
        }

    def require(self) -> None:
        """Raises at the first check that failed."""
        for report in self.reports:
            report.require()
        for opinion in self.polygraphy:
            opinion.require()
        for engine in self.broken:
            raise ParityError(f"{engine.file} cannot be used ({engine.reason})")
