"""The step in which a command loads the network it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glpn_deploy import progress

if TYPE_CHECKING:
    from glpn_deploy.estimator import DepthEstimator
    from glpn_deploy.runtimes.base import Compile, Device, Precision, Provider, Rest


def load_estimator(
    source: str,
    backend: str,
    precision: Precision | Literal["auto"],
    device: Device,
    *,
    threads: int | None,
    measure: bool,
    cache: Path | None,
    provider: Provider,
    compile: Compile,
    rest: Rest,
    offline: bool,
) -> DepthEstimator:
    """`DepthEstimator.load` as a step that says what was loaded; the arguments are its own.

    Raises:
        GlpnError: As `DepthEstimator.load`.
    """
    from glpn_deploy.estimator import DepthEstimator

    with progress.step("load") as step:
        estimator = DepthEstimator.load(
            source,
            backend,
            precision,
            device,
            threads=threads,
            offline=offline,
            measure=measure,
            cache=cache,
            provider=provider,
            compile=compile,
            rest=rest,
        )
        ran = estimator.runtime
        step.finish(f"{ran.backend} {ran.precision} on {ran.device}, depth up to {estimator.max_depth:g} m")
    return estimator
