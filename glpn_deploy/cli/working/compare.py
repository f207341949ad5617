"""The work of glpn-compare: reading two reports, and the table."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glpn_deploy.benchmarks.options import CompareOptions
from glpn_deploy.benchmarks.report.compare import Comparison, Verdict, compare_reports
from glpn_deploy.benchmarks.report.report_cells import ratio_text
from glpn_deploy.benchmarks.report.results import Report, rounded
from glpn_deploy.cli.app import FAILED
from glpn_deploy.cli.console import output, print_json


def run(first: Path, second: Path, options: CompareOptions, *, as_json: bool) -> None:
    """Compares two reports and prints each case's verdict.

    Raises:
        InputError: A report cannot be read, or the two cannot be compared.
    """
    found = compare_reports(Report.read(first), Report.read(second), options)
    if as_json:
        print_json(rounded(found.to_dict()))
    else:
        _print(output(as_json=False), found)
    if not found.passed:
        raise typer.Exit(FAILED)


_STYLES = {"faster": "green", "slower": "red", "no difference": "", "not judged": "yellow", "gone": "red"}


def _print(console: Console, found: Comparison) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("", "verdict", "second / first", "in products"):
        table.add_column(name, no_wrap=True)
    notes = []
    for case in found.cases:
        style = _STYLES[case.verdict]
        note = case.note
        if case.verdict == "no difference" and not case.proven:
            wide = f"the interval does not exclude a change of {found.margin:.0%}"
            note = f"{note}; {wide}" if note else wide
        verdict = f"[{style}]{case.verdict}[/]" if style else case.verdict
        ratios = [ratio_text(ratio).replace(" to ", "–") for ratio in (case.ratio, case.relative)]
        table.add_row(escape(case.key), verdict, *ratios)
        notes += [f"{case.key}: {note}"] if note else []
    console.print(table)
    console.print()
    for note in notes:
        console.print(note, style="dim", markup=False)
    if found.machine is not None:
        known = found.machine.low is not None
        words = "changed its speed" if found.machine_changed else "ran alike" if known else "is hard to judge"
        console.print(
            f"The machine {words}: a matrix product took {ratio_text(found.machine)} times as long."
        )
    for name, (before, after) in found.unlike.items():
        console.print(f"Unlike: {name} {before!r} and {after!r}", style="yellow", markup=False)
    if found.bundles is not None:
        console.print(f"Not the same bundle: {' and '.join(found.bundles)}", style="yellow", markup=False)
    for name, (before, after) in found.versions.items():
        console.print(f"{name}: {before or 'absent'} → {after or 'absent'}", style="dim", markup=False)
    for key in found.only_second:
        console.print(f"only in the second: {key}", style="dim", markup=False)
    failures: dict[Verdict, str] = {
        "slower": "became slower",
        "gone": "are gone from the second report",
        "not judged": "could not be judged; measure again on a quiet machine, or pass --force",
    }
    for verdict, words in failures.items():
        count = found.count(verdict)
        if count:
            console.print(f"{count} of {len(found.cases)} cases {words}.", style="bold red")
    if found.passed:
        console.print("Nothing became slower.", style="bold")
