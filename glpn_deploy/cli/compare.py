"""glpn-compare: did anything become faster or slower between two reports of glpn-bench?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glpn_deploy.cli.app import FAILED, command, output, print_json
from glpn_deploy.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from glpn_deploy.benchmarks.report.compare import Comparison, Verdict


def compare(
    first: Annotated[Path, typer.Argument(help="Report of before: report.json of glpn-bench.")],
    second: Annotated[Path, typer.Argument(help="Report of after.")],
    margin: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Changes of time below this share do not count.")
    ] = 0.03,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "--anyway",
            help="Compare unlike machines, checkpoints and images too, and judge by time alone what else "
            "could not be judged.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two benchmark reports of one machine, case by case.

    Exit status: 0 nothing became slower by more than the margin, 1 a case did, could not be judged or is
    gone, 2 wrong use, or unlike machines, checkpoints or images.

    Example: glpn-compare before/report.json after/report.json --margin 0.03
    """
    from glpn_deploy.benchmarks.report.compare import CompareOptions, compare_reports
    from glpn_deploy.benchmarks.report.results import Report, rounded

    found = compare_reports(Report.read(first), Report.read(second), CompareOptions(margin, force))
    if as_json:
        print_json(rounded(found.to_dict()))
    else:
        _print(output(as_json=False), found)
    if not found.passed:
        raise typer.Exit(FAILED)


_STYLES = {"faster": "green", "slower": "red", "no difference": "", "not judged": "yellow", "gone": "red"}


def _print(console: Console, found: Comparison) -> None:
    from rich.table import Table

    from glpn_deploy.benchmarks.report.report_cells import ratio_text

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
        table.add_row(case.key, verdict, *ratios)
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


main = command(compare)

if __name__ == "__main__":
    main()
