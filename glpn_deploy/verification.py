"""Verifying a bundle where it stands: digests, goldens, and PyTorch where a checkpoint is given."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.bundle import Bundle
from glpn_deploy.errors import BundleError
from glpn_deploy.parity import ParityReport, compare_over_sweep, tolerance_m, verify_goldens
from glpn_deploy.progress import Progress, SilentProgress
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend

_TRAINING_ONLY = {  # settings that do not change what the network computes in eval mode
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-6,
}


def verify_bundle(
    folder: str | Path,
    reference: str | None = None,
    options: RuntimeOptions = RuntimeOptions(),  # noqa: B008 - frozen
    tolerance: float | None = None,
    offline: bool = False,
    progress: Progress = SilentProgress(),  # noqa: B008 - stateless
) -> list[ParityReport]:
    """Checks every digest, then the FP32 artefact's depth on this machine.

    Args:
        folder: The bundle.
        reference: A checkpoint to compare with over the shape sweep; needs torch. Its scale is taken
            from the bundle, so that a bundle exported with another ``max_depth`` is compared fairly.
        options: Where to run the artefact.
        tolerance: Largest |difference| allowed, as a share of max_depth; None takes the default.
        offline: Use the hub's cache only.
        progress: Told of every step.

    Returns:
        The report over the goldens, and the one over the sweep where a reference was given.

    Raises:
        GlpnError: The bundle is damaged, or a backend is missing. A report that failed is returned.
    """
    bundle = Bundle.open(folder)
    require_backend("onnxruntime")
    if reference is not None:
        require_backend("torch")
    bundle.check_files(progress)
    config = bundle.manifest.config
    limit = tolerance_m("fp32", config.max_depth, tolerance)
    with load_runtime("onnxruntime", bundle.artefact_path(bundle.artefact("fp32")), options) as candidate:
        reports = [verify_goldens(bundle, candidate, limit, progress)]
        if reference is None:
            return reports
        from glpn_deploy.checkpoint import load_model, resolve_checkpoint  # need torch, the goldens do not
        from glpn_deploy.runtimes.rt_torch import TorchRuntime

        path = resolve_checkpoint(reference, offline=offline)
        model = load_model(path, max_depth=config.max_depth, norm_eps=config.norm_eps)
        if model.config.replace(**_TRAINING_ONLY) != config.replace(**_TRAINING_ONLY):
            raise BundleError(
                f"{reference} is not the network that {folder} was exported from: their configs differ",
                fix="give the checkpoint that its manifest names under source",
            )
        runtime = TorchRuntime(model, RuntimeOptions(device="cpu"))
        report = compare_over_sweep(candidate, runtime, bundle.processor, limit, progress)
    return [*reports, report]
