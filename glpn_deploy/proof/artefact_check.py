"""Checking one artefact of a lower precision: the goldens, and the FP32 artefact over the shape sweep."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.manifest import RE_EXPORT, Artefact
from glpn_deploy.errors import BundleError
from glpn_deploy.precisions import PRECISION_INFO, PRECISIONS, Precision
from glpn_deploy.proof.artefact_runs import ArtefactRun
from glpn_deploy.proof.checks.budget import artefact_budget
from glpn_deploy.proof.findings import NotRun, Verification
from glpn_deploy.proof.parity import Batch, compare_batches, golden_batches, verify_goldens
from glpn_deploy.proof.parity_report import ParityReport, conclude
from glpn_deploy.proof.polygraphy_check import PolygraphyReport, polygraphy_check
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.registry import load_runtime

_INSTALL_ONNX = "pip install onnx"


@dataclasses.dataclass(frozen=True)
class Reference:
    """The FP32 artefact as it ran on this machine.

    Attributes:
        device: What it ran on (``cpu``, ``cuda:0``).
        about: Backend, device and precision, for reports.
        sweep: Its depth over the shape sweep; empty where that is left out.
    """

    path: Path
    device: str
    about: dict[str, Any]
    sweep: tuple[Batch, ...] = ()


def check_artefact(
    bundle: Bundle,
    artefact: Artefact,
    reference: Reference,
    options: RuntimeOptions,
    polygraphy: bool = False,
) -> Verification:
    """Runs an artefact of a lower precision here, and holds it to its budget; a failed report is returned."""
    limit, precision = artefact_budget(artefact), known_precision(artefact)
    path = artefact_path(bundle, artefact)
    with tempfile.TemporaryDirectory() as work, progress.step(artefact.file) as step:
        run = open_artefact(path, precision, options, reference.device, Path(work))
        bundle.require_unchanged()
        if isinstance(run, str):
            step.warn("not checked here")
            return Verification(not_run=(NotRun(artefact.file, precision, run),))
        not_run = (NotRun(artefact.file, precision, run.caution),) if run.caution else ()
        with run.runtime as candidate:
            found = [verify_goldens(bundle, candidate, limit, f"{precision} goldens")]
            if reference.sweep:
                title, shapes = f"{precision} sweep", reference.sweep
                found.append(compare_batches(candidate, shapes, reference.about, limit, title, len(shapes)))
        about = {"precision": precision, "file": artefact.file, "run": run.how}
        reports = [dataclasses.replace(r, candidate={**r.candidate, **about}) for r in found]
        conclude(step, reports)
        opinions = []
        if polygraphy:
            opinions = [second_opinion(run, reports[0], tuple(golden_batches(bundle)))]
            opinions += [second_opinion(run, r, reference.sweep, reference.path) for r in reports[1:]]
    return Verification(tuple(reports), not_run, tuple(opinions))


def open_artefact(
    path: Path, precision: Precision, options: RuntimeOptions, device: str, work: Path
) -> ArtefactRun | str:
    """Loads an artefact of a lower precision so that its rounding and its overflow show.

    On a CPU `glpn_deploy.proof.checks.opening.open_typed` says how; it needs onnx.

    Args:
        path: The ``.onnx`` file, its digest checked.
        device: What the FP32 artefact runs on here (``cpu``, ``cuda:0``).
        work: A folder for the emulation, which lives as long as the run.

    Returns:
        The run, or why this machine cannot run the artefact.

    Raises:
        BundleError: The artefact cannot be loaded for another reason.
    """
    has_onnx = importlib.util.find_spec("onnx") is not None
    if device != "cpu":
        run = _native(path, precision, options)
        if isinstance(run, ArtefactRun) or not has_onnx:
            return run
    if has_onnx:
        from glpn_deploy.proof.checks.opening import open_typed

        return open_typed(path, precision, work, options.threads)
    if not PRECISION_INFO[precision].in_onnxruntime:
        return (
            f"ONNX Runtime's CPU has no {precision} kernels, and emulating them needs onnx: {_INSTALL_ONNX}"
        )
    run = _native(path, precision, options)
    if isinstance(run, ArtefactRun) and precision == "fp16":
        caution = (
            "ONNX Runtime's CPU computes FP16 nodes in FP32 and so hides their overflow; "
            f"to emulate them: {_INSTALL_ONNX}"
        )
        return dataclasses.replace(run, caution=caution)
    return run


def _native(path: Path, precision: Precision, options: RuntimeOptions) -> ArtefactRun | str:
    """The run, or why the backend has no kernels for it."""
    try:
        runtime = load_runtime("onnxruntime", path, dataclasses.replace(options, precision=precision))
    except BundleError as error:
        if type(error.__cause__).__name__ != "NotImplemented":  # onnxruntime's name for a missing kernel
            raise
        return error.got
    return ArtefactRun(runtime, path)


def second_opinion(
    run: ArtefactRun, report: ParityReport, batches: Sequence[Batch], reference: Path | None = None
) -> PolygraphyReport:
    """Polygraphy's result on a comparison, with what `polygraphy_check` takes for the reference."""
    return polygraphy_check(
        run.path,
        reference,
        batches,
        report,
        device=run.runtime.device,
        plain_qdq=run.plain_qdq,
        title=f"polygraphy {run.runtime.precision}",
    )


def known_precision(artefact: Artefact) -> Precision:
    """The artefact's precision."""
    found = next((name for name in PRECISIONS if name == artefact.precision), None)
    if found is None:
        raise BundleError(
            f"the manifest gives {artefact.file} the precision {artefact.precision!r}",
            expected=f"one of {', '.join(PRECISIONS)}",
            fix=RE_EXPORT,
        )
    return found
