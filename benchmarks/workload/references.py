"""What a sweep refers to: the bundle's checkpoint, the baseline, the data set, and which files these were."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.benchmarks.workload.cases import PEERS, CaseId, NotRun, Runner, parse_runner
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.datasets.registry import open_ground_truth
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.reading import file_digest


def find_checkpoint(bundle: Bundle, reference: str | None, *, offline: bool) -> tuple[Path | None, str]:
    """The checkpoint that the bundle was made from, or why it is not at hand.

    Raises:
        GlpnError: One was asked for and cannot be used.
    """
    about = bundle.manifest.source
    named = reference or str(about.get("source"))
    try:
        from glpn_deploy.checkpoints.files import checkpoint_digest  # needs safetensors
        from glpn_deploy.checkpoints.hub import HubOptions, resolve_checkpoint

        path = resolve_checkpoint(named, HubOptions(offline=offline or reference is None))
        if checkpoint_digest(path) != about.get("digest"):
            raise InputError(f"{named} is not the checkpoint that this bundle was exported from")
        if (
            path.is_dir()
            and GLPNConfig.from_json_file(path / "config.json").max_depth != bundle.manifest.config.max_depth
        ):
            raise InputError(f"{named} has another max_depth than this bundle was exported with")
    except (GlpnError, ImportError) as error:
        if reference is not None:
            raise
        reason = error.got if isinstance(error, GlpnError) else error
        return None, (
            f"the bundle's checkpoint is not at hand: {reason}; pass --reference CHECKPOINT. "
            "Errors refer to the bundle's FP32 artefact"
        )
    return path, ""


def choose_baseline(runners: Sequence[Runner], asked: str | None, not_run: Sequence[NotRun] = ()) -> Runner:
    """The runner that ratios refer to.

    Raises:
        InputError: None of that name is to be run; where ``not_run`` says why, so does this.
    """
    if asked is None:
        certain = [r for r in runners if not r.probe] or list(runners)
        full = [r for r in certain if r.precision == "fp32" and r.backend not in PEERS] or certain
        return next((r for r in full if r.backend == "torch"), full[0])
    wanted = parse_runner(asked)
    for runner in runners:
        if wanted.covers(runner.id) or wanted.covers(CaseId(runner.backend, runner.precision)):
            return runner
    for item in not_run:
        if item.case.covers(wanted):
            raise InputError(f"--baseline {asked} cannot run here: {item.reason}")
    have = ", ".join(str(runner.id) for runner in runners)
    raise InputError(f"--baseline {asked} is not among the rows", expected=f"one of {have}")


def check_dataset(options: GroundTruthOptions) -> None:
    """Refuses a data set that cannot be used before anything is measured.

    Raises:
        GlpnError: As `open_ground_truth`, or a file of it is missing.
    """
    data = open_ground_truth(options)
    if data is not None and hasattr(data, "check"):
        data.check()


def describe_source(bundle: Bundle, images: Sequence[Path]) -> dict[str, Any]:
    """Which bundle, checkpoint and images a report is of; see its ``source``."""
    digests = "".join(file_digest(path) for path in images)
    return {
        "bundle": bundle.folder.resolve().name,
        "manifest_sha256": file_digest(bundle.folder / "manifest.json"),
        "checkpoint": bundle.manifest.source.get("digest"),
        "images": [path.name for path in images],
        "images_sha256": hashlib.sha256(digests.encode()).hexdigest(),
    }
