"""How a command loads the network it runs, and what glpn-predict says of images and videos alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer

from glpn_deploy import progress
from glpn_deploy.cli.app import FAILED
from glpn_deploy.cli.console import PlainConsole, print_json, say_why
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


def load_to_predict(console: PlainConsole, source: str, options: LoadOptions) -> DepthEstimator:
    """The same, and says why it is this backend, and what the network is for."""
    estimator = load_estimator(source, options)
    say_why(console, estimator.runtime.why)
    if estimator.origin.advice:
        console.print(f"  {estimator.origin.advice}", style="yellow", markup=False)
    return estimator


def conclude(
    estimator: DepthEstimator, out: Path, failed: int, results: dict[str, Any], *, as_json: bool
) -> None:
    """Prints what was predicted as JSON where that is asked for.

    Raises:
        Exit: Something failed.
    """
    if as_json:
        ran = estimator.runtime.describe()
        about = {
            "out": str(out),
            "unit": "metres",
            "runtime": ran,
            "origin": dataclasses.asdict(estimator.origin),
        }
        print_json({**about, **results, "failed": failed})
    if failed:
        raise typer.Exit(FAILED)
