"""Verifying a bundle where it stands: digests, then every artefact against goldens and the FP32 one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glpn_deploy import progress
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import bundle_engines
from glpn_deploy.bundle.manifest import MANIFEST, Artefact
from glpn_deploy.errors import BundleError, InputError, MissingDependencyError, UnavailableError
from glpn_deploy.proof.artefact_check import (
    Reference,
    check_artefact,
    known_precision,
    second_opinion,
)
from glpn_deploy.proof.artefact_runs import ArtefactRun
from glpn_deploy.proof.checks.budget import Budget, artefact_budget
from glpn_deploy.proof.engine_check import check_engines
from glpn_deploy.proof.findings import NotRun, Verification
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.parity import (
    compare_over_sweep,
    fp32_budget,
    golden_batches,
    sweep_depths,
    verify_goldens,
)
from glpn_deploy.proof.parity_report import ParityReport, conclude
from glpn_deploy.proof.polygraphy_check import require_polygraphy
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.artefact_file import load_artefact, require_onnx
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx
from glpn_deploy.runtimes.registry import BACKENDS, require_backend

_TRAINING_ONLY = {  # settings that do not change what the network computes in eval mode
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-6,
}


def verify(folder: str | Path, options: VerifyOptions = VerifyOptions()) -> Verification:
    """Checks every digest, then the depth of every artefact on this machine.

    An ``.onnx`` file, or a folder that holds one as Optimum writes it, is held against the checkpoint
    (`glpn_deploy.proof.foreign_check.verify_foreign`), which has to be given.

    The FP32 artefact is held against the goldens, and against the checkpoint where one is given. Every
    other artefact is held against the goldens and, over the shape sweep, against the FP32 artefact as it
    runs here; every batch has to keep the budget it was exported with, or its precision's default.
    TensorRT engines in the bundle are checked as `glpn_deploy.proof.engine_check.check_engines` says. Where
    ONNX Runtime is missing but an engine fits this machine, as on a Jetson, the engines alone are checked,
    and the ONNX artefacts are among what was not run.

    Raises:
        GlpnError: The bundle is damaged, or a backend is missing. A report that failed is returned.
    """
    onnx = None if (Path(folder) / MANIFEST).is_file() else find_onnx(folder)
    if onnx is not None:
        return _against_its_checkpoint(onnx, options)
    bundle = Bundle.open(folder)
    install = BACKENDS["onnxruntime"].missing()
    if options.reference is not None or options.polygraphy or not bundle_engines(bundle.folder):
        require_backend("onnxruntime")
    if options.reference is not None:
        require_backend("torch")
    if options.polygraphy:
        require_polygraphy()
    chosen = _chosen(bundle, options.precisions)
    for artefact in chosen:
        require_onnx(bundle, artefact)
        if known_precision(artefact) != "fp32":
            artefact_budget(artefact)  # refuses a damaged one before the long work
    bundle.artefact("fp32")
    bundle.check_files()
    if install is None:
        found = _check_artefacts(bundle, chosen, options)
    else:
        why = f"ONNX Runtime, which runs it, is not installed: {install}"
        found = Verification(not_run=tuple(NotRun(one.file, one.precision, why) for one in chosen))
    engines = check_engines(bundle, options.precisions, options.runtime)
    if install is not None and not (engines.fits or engines.broken):
        raise _nothing_runs(bundle, engines.not_run, install)
    bundle.require_unchanged()
    found += engines + Verification(max_depth=bundle.manifest.config.max_depth)
    if options.precisions is not None and not options.runtime.allow_fallback:
        _require_compared(found, options.precisions)
    return found


def _against_its_checkpoint(path: Path, options: VerifyOptions) -> Verification:
    if options.reference is None:
        raise InputError(
            f"{path} is an ONNX file alone, which brings nothing to compare with",
            expected="a bundle, or the checkpoint to compare with",
            fix=f"give the folder itself: {path.parent}"
            if (path.parent / MANIFEST).is_file()
            else "pass --reference CHECKPOINT",
        )
    require_backend("onnxruntime")
    require_backend("torch")
    from glpn_deploy.checkpoints.hub import HubOptions, resolve_checkpoint  # needs torch, as what follows
    from glpn_deploy.proof.foreign_check import verify_foreign

    return verify_foreign(
        path, resolve_checkpoint(options.reference, HubOptions(offline=options.offline)), options
    )


def _check_artefacts(bundle: Bundle, chosen: list[Artefact], options: VerifyOptions) -> Verification:
    """Checks the ONNX artefacts; their files have been checked."""
    full = bundle.artefact("fp32")
    lower = [artefact for artefact in chosen if artefact.precision != "fp32"]
    path = bundle.folder / full.file
    found = Verification()
    with (
        progress.step(full.file if full in chosen else "reference") as step,
        load_artefact(bundle, full, "onnxruntime", options.runtime) as runtime,
    ):
        if full in chosen:
            limit = fp32_budget(bundle.manifest.config.max_depth, options.tolerance)
            goldens = verify_goldens(bundle, runtime, limit)
            found += Verification((goldens,))
            if options.polygraphy:
                batches = tuple(golden_batches(bundle))
                opinion = second_opinion(ArtefactRun(runtime, path), goldens, batches)
                found += Verification(polygraphy=(opinion,))
            if options.reference is not None:
                found += Verification((_against_checkpoint(bundle, runtime, options, limit),))
        sweep = sweep_depths(runtime, bundle.processor) if lower and options.sweep else ()
        reference = Reference(path, runtime.device, runtime.describe(), sweep)
        conclude(step, found.reports)
    checks = (check_artefact(bundle, one, reference, options.runtime, options.polygraphy) for one in lower)
    return sum(checks, found)


def _require_compared(found: Verification, precisions: Sequence[str]) -> None:
    """Refuses a check by name of which this machine can do nothing."""
    compared = {report.candidate["precision"] for report in found.reports}
    for item in found.not_run:
        if item.precision in precisions and item.precision not in compared and not found.broken:
            raise UnavailableError(
                f"precision {item.precision} was asked for, and {item.file} cannot be checked here: "
                f"{item.reason}",
                fix="ask for another --precision, or add --allow-fallback to check the rest",
            )


def _nothing_runs(bundle: Bundle, engines: Sequence[NotRun], install: str) -> MissingDependencyError:
    """What is said where neither ONNX Runtime nor an engine can show anything."""
    reasons = [f"{item.file}: {item.reason}" for item in engines]
    return MissingDependencyError(
        f"nothing of {bundle.folder} can be run here: onnxruntime is not installed, and no engine of what is "
        f"asked for fits ({'; '.join(reasons) or 'there is none'})",
        fix=install,
    )


def _chosen(bundle: Bundle, precisions: tuple[str, ...] | None) -> list[Artefact]:
    """The artefacts to check, in the manifest's order."""
    for precision in precisions or ():
        bundle.artefact(precision)  # refuses what the bundle has not
    artefacts = bundle.manifest.artefacts
    return [artefact for artefact in artefacts if precisions is None or artefact.precision in precisions]


def _against_checkpoint(
    bundle: Bundle, candidate: Runtime, options: VerifyOptions, limit: Budget
) -> ParityReport:
    """Holds the FP32 artefact against the checkpoint it came from, over the shape sweep."""
    from glpn_deploy.checkpoints.hub import HubOptions, resolve_checkpoint  # needs torch, the goldens do not
    from glpn_deploy.model.modeling import GLPNForDepthEstimation
    from glpn_deploy.runtimes.rt_torch import TorchRuntime

    source, config = str(options.reference), bundle.manifest.config
    path = resolve_checkpoint(source, HubOptions(offline=options.offline))
    model = GLPNForDepthEstimation.from_pretrained(
        path, max_depth=config.max_depth, norm_eps=config.norm_eps, dtype="float32"
    )
    if model.config.replace(**_TRAINING_ONLY) != config.replace(**_TRAINING_ONLY):
        raise BundleError(
            f"{source} is not the network that {bundle.folder} was exported from: their configs differ",
            fix="give the checkpoint that its manifest names under source",
        )
    runtime = TorchRuntime(model, RuntimeOptions(device="cpu"))
    return compare_over_sweep(candidate, runtime, bundle.processor, limit)
