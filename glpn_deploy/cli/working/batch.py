"""The work of glpn-batch: the job and its report."""

from __future__ import annotations

import typer
from rich.markup import escape

from glpn_deploy.cli.app import FAILED
from glpn_deploy.cli.console import output, print_json, say_why
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.scale.batch import run_batch
from glpn_deploy.scale.options import BatchOptions


def run(
    source: str, images: str, out: str, options: BatchOptions, load: LoadOptions, *, as_json: bool
) -> None:
    """Runs a job, and says how many images it did.

    Raises:
        GlpnError: As `run_batch`.
    """
    console = output(as_json=as_json)
    try:
        report = run_batch(source, images, out, options, load)
    except KeyboardInterrupt:
        console.print("  what is finished is kept: the same command goes on with the rest")
        raise
    say_why(console, report.runtime.get("why", ""))
    if report.done_before:
        console.print(f"  {report.done_before} images had been done before", style="dim")
    if report.deaths:
        console.print(
            f"  {report.deaths} times a worker was killed, and its images done again", style="yellow"
        )
    for path, error in report.errors.items():
        console.print(f"[red]✗[/] {escape(path)}: {escape(error)}", markup=True)
    if report.failed > len(report.errors):
        console.print(f"  … and so on: {report.failed} have an error in the manifest", style="red")
    console.print(f"  {out}/manifest.parquet: {report.images} images, {report.failed} failed", markup=False)
    if as_json:
        print_json({"out": out, "manifest": f"{out}/manifest.parquet", "unit": "metres", **report.to_dict()})
    if report.failed:
        console.print("  the same command with --retry-failed tries them again")
        raise typer.Exit(FAILED)
