"""The work of glpn-bench: measuring, the files, and the table."""

from __future__ import annotations

import itertools
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glpn_deploy import progress
from glpn_deploy.atomic import staging_folder
from glpn_deploy.benchmarks.options import QUICK, BenchOptions
from glpn_deploy.benchmarks.remembering import fastest_of
from glpn_deploy.benchmarks.report.charts import drawing
from glpn_deploy.benchmarks.report.report_cells import BRIEF, cells, conditions, used_columns
from glpn_deploy.benchmarks.report.report_markdown import accuracy_table, accuracy_title, load_table
from glpn_deploy.benchmarks.report.results import Report, rounded
from glpn_deploy.benchmarks.report.stability import unstable_lines
from glpn_deploy.benchmarks.report.written import write_reports
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.asked import require_asked
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.cli.app import FAILED
from glpn_deploy.cli.console import output, print_json, runnable, say_next
from glpn_deploy.errors import WriteError
from glpn_deploy.runtimes.remembered import forget, remember


def run(bundle: Path, options: BenchOptions, out: Path | None, *, remembering: bool, as_json: bool) -> None:
    """Measures, writes the reports, and prints what was found.

    Raises:
        GlpnError: The machine could not, or an option does not fit the bundle.
    """
    console = output(as_json=as_json)
    folder = out or bundle.resolve().with_name(f"{bundle.resolve().name}-bench")
    _check_writable(folder)
    with drawing():  # refuses what the page is drawn with, where it is missing, before anything is measured
        pass
    try:
        report = run_sweep(bundle, options)
    except KeyboardInterrupt:
        console.print("No shape was complete: no report is written.", style="bold red")
        raise
    with progress.step("write the report"):
        files = write_reports(report, folder)
    if as_json:
        print_json(rounded(report.to_dict()))
    else:
        _print(console, report)
    if options.rounds == QUICK:
        words = "A quick look: wide intervals, small differences not told apart, no stages, no operators."
        console.print(words, style="yellow", markup=False)
    console.print("\n" + "\n".join(f"  {path}" for path in files), markup=False)
    if report.interrupted:
        console.print("\nInterrupted: what was complete is written.", style="bold red")
        raise typer.Exit(FAILED)
    if remembering:
        kept = fastest_of(report, Bundle.open(bundle), options)
        remember(kept)
        words = ", ".join(f"{found.backend} for {name}" for name, found in kept.fastest.items())
        console.print(
            f"\nRemembered: from now on auto takes {words}, and {kept.precision} where no precision is named "
            "for this bundle; glpn-doctor shows it, --forget ends it.",
            markup=False,
        )
    require_asked(options, [row.id for row in report.rows], report.not_run)
    if remembering:
        say_next(console, f"{runnable('glpn-predict')} {bundle} photo.jpg")
    else:
        say_next(console, f"{runnable('glpn-bench')} {bundle} --remember")


def run_forget(bundle: Path, *, as_json: bool) -> None:
    """Forgets what was remembered of a bundle's network.

    Raises:
        GlpnError: The bundle cannot be used.
    """
    count = forget(Bundle.open(bundle))
    if as_json:
        print_json({"forgotten": count})
    else:
        output(as_json=False).print(f"Forgotten: {count}." if count else "Nothing was remembered.")


def _check_writable(folder: Path) -> None:
    """Refuses a folder that the reports could not be written to, without making it.

    Raises:
        WriteError: It, or the folder that it is to be made in, takes no files.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise WriteError(f"--out {folder}: {there} is not a folder", fix="choose another")
    with staging_folder(there / "report.json"):
        pass


def _print(console: Console, report: Report) -> None:
    """The answer, the tables, and what to know about them."""
    console.print()
    for answer in report.answers:
        console.print(answer, style="bold", markup=False)
    columns = [name for name in used_columns(report.rows) if name in BRIEF]
    for shape, rows in itertools.groupby(report.ordered(), key=lambda row: row.shape):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(shape, no_wrap=True)
        for name in columns:
            table.add_column(BRIEF[name], justify="right", no_wrap=True)
        for row in rows:
            texts = (cells(row)[name].replace(" to ", "–") for name in columns)
            table.add_row(escape(str(row.id.runner)), *texts)
        console.print()
        console.print(table)
    for title, (head, body) in (
        (accuracy_title(report), accuracy_table(report)),
        ("Under load", load_table(report)),
    ):
        if body:
            table = Table(*head, box=None, pad_edge=False)
            for line_of_cells in body:
                table.add_row(*map(escape, line_of_cells))
            console.print(f"\n{title}:", markup=False)
            console.print(table)
    console.print()
    for line in unstable_lines(report.rows):
        console.print(line, style="yellow", markup=False)
    for item in report.not_run:
        console.print(f"not run: {item.name}: {item.reason}", style="dim", markup=False)
    for line in conditions(report)[-2:]:
        console.print(line, style="dim", markup=False)
