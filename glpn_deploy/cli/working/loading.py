"""The step in which a command loads the network it runs."""

from __future__ import annotations

from glpn_deploy import progress
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.runtimes.options import LoadOptions


def load_estimator(source: str, options: LoadOptions) -> DepthEstimator:
    """`DepthEstimator.load` as a step that says what was loaded.

    Raises:
        GlpnError: As `DepthEstimator.load`.
    """
    with progress.step("load") as step:
        estimator = DepthEstimator.open(source, options)
        ran = estimator.runtime
        mixed = options.resolved(ran.precision).fallback_precision != "fp32"
        precision = f"{ran.precision}+{options.resolved().fallback_precision}" if mixed else ran.precision
        step.finish(f"{ran.backend} {precision} on {ran.device}, depth up to {estimator.max_depth:g} m")
    return estimator
