"""Checking one artefact of a lower precision: the goldens, and the FP32 artefact over the shape sweep."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.manifest import RE_EXPORT, Artefact
from glpn_deploy.errors import BundleError
from glpn_deploy.proof.artefact_runs import ArtefactRun, NotRun, open_artefact
from glpn_deploy.proof.checks.budget import artefact_budget
from glpn_deploy.proof.parity import Batch, golden_batches, judge_in_step, verify_goldens
from glpn_deploy.proof.parity_report import ParityReport
from glpn_deploy.proof.polygraphy_check import PolygraphyReport, polygraphy_check
from glpn_deploy.runtimes.base import PRECISIONS, Precision, RuntimeOptions


@dataclasses.dataclass(frozen=True)
class Reference:
    """The FP32 artefact as it ran on this machine.

    Attributes:
        path: Its file.
        device: What it ran on (``cpu``, ``cuda:0``).
        about: Backend, device and precision, for reports.
        sweep: Its depth over the shape sweep; empty where that is left out.
    """

    path: Path
    device: str
    about: dict[str, Any]
    sweep: tuple[Batch, ...] = ()


@dataclasses.dataclass(frozen=True)
class ArtefactFindings:
    """What was found of one artefact.

    Attributes:
        reports: The comparison with the goldens and, where asked for, the one over the sweep.
        not_run: What this machine could not check.
        polygraphy: Polygraphy's verdicts on the reports, where they were asked for.
    """

    reports: tuple[ParityReport, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    polygraphy: tuple[PolygraphyReport, ...] = ()


def check_artefact(
    bundle: Bundle,
    artefact: Artefact,
    reference: Reference,
    options: RuntimeOptions,
    *,
    polygraphy: bool = False,
) -> ArtefactFindings:
    """Runs an artefact of a lower precision here, and holds it to its budget.

    Args:
        bundle: The bundle.
        artefact: One of its artefacts, not the FP32 one.
        reference: The FP32 artefact.
        options: Where to run.
        polygraphy: Let Polygraphy judge as well.

    Raises:
        GlpnError: The artefact is damaged, or failed to run. A report that failed is returned.
    """
    limit, precision = artefact_budget(artefact), known_precision(artefact)
    path = bundle.artefact_path(artefact)
    with tempfile.TemporaryDirectory() as work:
        run = open_artefact(path, precision, options, reference.device, Path(work))
        if isinstance(run, str):
            return ArtefactFindings(not_run=(NotRun(artefact.file, precision, run),))
        not_run = (NotRun(artefact.file, precision, run.caution),) if run.caution else ()
        with run.runtime as candidate:
            found = [verify_goldens(bundle, candidate, limit, f"{precision} goldens")]
            if reference.sweep:
                title, shapes = f"{precision} sweep", reference.sweep
                found.append(judge_in_step(title, len(shapes), candidate, shapes, reference.about, limit))
        about = {"precision": precision, "file": artefact.file, "run": run.how}
        reports = [dataclasses.replace(r, candidate={**r.candidate, **about}) for r in found]
        opinions = []
        if polygraphy:
            opinions = [second_opinion_on_goldens(bundle, run, reports[0])]
            for report in reports[1:]:
                opinion = polygraphy_check(
                    run.path,
                    reference.path,
                    reference.sweep,
                    report,
                    device=run.runtime.device,
                    plain_qdq=run.plain_qdq,
                    title=f"polygraphy {precision}",
                )
                opinions.append(opinion)
    return ArtefactFindings(tuple(reports), not_run, tuple(opinions))


def second_opinion_on_goldens(bundle: Bundle, run: ArtefactRun, report: ParityReport) -> PolygraphyReport:
    """Polygraphy's verdict on a comparison with the goldens."""
    batches = tuple(golden_batches(bundle))
    return polygraphy_check(
        run.path,
        None,
        batches,
        report,
        device=run.runtime.device,
        plain_qdq=run.plain_qdq,
        title=f"polygraphy {run.runtime.precision}",
    )


def known_precision(artefact: Artefact) -> Precision:
    """The artefact's precision.

    Raises:
        BundleError: It is none.
    """
    for precision in PRECISIONS:
        if artefact.precision == precision:
            return precision
    raise BundleError(
        f"the manifest gives {artefact.file} the precision {artefact.precision!r}",
        expected=f"one of {', '.join(PRECISIONS)}",
        fix=RE_EXPORT,
    )
