"""glpn-bench: how fast is each backend and precision of a bundle here, and how far is its depth?"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glpn_deploy.cli.app import FAILED, command, output, print_json
from glpn_deploy.cli.options import DeviceOption, JsonOption, OfflineOption, ThreadsOption, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from glpn_deploy.benchmarks.report.results import Report
    from glpn_deploy.runtimes.base import Precision


def bench(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    backends: Annotated[
        str | None,
        typer.Option(
            help="Backends, separated by commas [default: all that are installed]; also torch-compile, "
            "tensorrt-nograph and openvino-fallback-bf16."
        ),
    ] = None,
    precisions: Annotated[
        str | None, typer.Option(help="Precisions, separated by commas [default: all].")
    ] = None,
    shapes: Annotated[
        str, typer.Option(metavar="HxW,…", help="Sizes of the images, height x width.")
    ] = "480x640",
    batches: Annotated[str, typer.Option(metavar="N,…", help="Images a run.")] = "1",
    baseline: Annotated[
        str | None,
        typer.Option(
            help="What ratios refer to: a backend or a peer, alone or as backend:precision "
            "[default: torch fp32, else the first]."
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Other projects' rows: hf-eager, hf-compile, optimum, separated by commas."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that the bundle was made from [default: the bundle's, if at hand]."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photographs as inputs [default: the bundle's goldens].")
    ] = None,
    width: Annotated[
        float, typer.Option(min=0.1, max=50, help="Stop when the median is known to ± this many percent.")
    ] = 2.0,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Time of a case in rounds [s]; a slow one may have thrice that.")
    ] = 10.0,
    dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"] | None,
        typer.Option("--eval", help="Also judge each backend and precision on a data set."),
    ] = None,
    eval_path: Annotated[Path | None, typer.Option(help="Where the data set lies.")] = None,
    eval_count: Annotated[int | None, typer.Option(min=1, help="Rooms to judge on [default: 500].")] = None,
    stages: Annotated[
        bool, typer.Option("--stages/--no-stages", help="Also measure decode, preprocess and so on.")
    ] = True,
    load: Annotated[
        bool, typer.Option("--load", help="Also measure 1, 2, 4 and 8 concurrent callers.")
    ] = False,
    load_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long each number of callers calls [s].")
    ] = 5.0,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BACKEND=PYTHON",
            help="Another Python that has a backend's or peer's packages; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json, report.md and report.html [default: BUNDLE-bench]."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of every backend and artefact that this machine can run.

    Each case lives in a fresh process; all are measured in interleaved rounds on the same real images,
    beside their error against PyTorch's FP32 depth. What was not stable says so and gets no headline.
    Exit status: 0 done (rows that could not run are listed), 1 the machine could not, or Ctrl-C ended it
    (the shapes that were complete are written), 2 wrong use.

    Example: glpn-bench glpn-nyu --shapes 480x640 --batches 1,4
    """
    from glpn_deploy.benchmarks.measuring.rounds import RoundOptions
    from glpn_deploy.benchmarks.options import BenchOptions, EvalChoice
    from glpn_deploy.benchmarks.report.results import rounded
    from glpn_deploy.benchmarks.report.written import write_reports
    from glpn_deploy.benchmarks.sweep import run_sweep
    from glpn_deploy.errors import InputError

    if dataset is None and (eval_path is not None or eval_count is not None):
        name = "--eval-path" if eval_count is None else "--eval-count"
        raise InputError(f"{name} without --eval", expected="a data set to judge on, such as --eval rooms")
    options = BenchOptions(
        backends=_words(backends),
        precisions=_precisions(precisions),
        shapes=tuple(parse_size("--shapes", text) for text in shapes.split(",")),
        batches=tuple(int(n) for n in _numbers("--batches", batches)),
        baseline=baseline,
        peers=_words(peers) or (),
        reference=reference,
        images=images,
        device=device,
        threads=threads,
        rounds=RoundOptions(half_width=width / 100, seconds=seconds),
        stages=stages,
        evaluate=None
        if dataset is None
        else EvalChoice(dataset, None if eval_path is None else str(eval_path), eval_count),
        callers=(1, 2, 4, 8) if load else (),
        load_seconds=load_seconds,
        offline=offline,
        pythons=parse_pythons(python or ()),
    )
    console = output(as_json=as_json)
    folder = out or bundle.resolve().with_name(f"{bundle.resolve().name}-bench")
    _check_writable(folder)
    try:
        report = run_sweep(bundle, options)
    except KeyboardInterrupt:
        console.print("No shape was complete: no report is written.", style="bold red")
        raise
    files = write_reports(report, folder)
    if as_json:
        print_json(rounded(report.to_dict()))
    else:
        _print(console, report)
    console.print("\n" + "\n".join(f"  {path}" for path in files), markup=False)
    if report.interrupted:
        console.print("\nInterrupted: what was complete is written.", style="bold red")
        raise typer.Exit(FAILED)
    console.print(f"\nNext:\n  glpn-compare {files[0]} OTHER.json", markup=False)


def _check_writable(folder: Path) -> None:
    """Refuses a folder that the reports could not be written to, without making it.

    Raises:
        WriteError: It, or the folder that it is to be made in, takes no files.
    """
    from glpn_deploy.atomic import staging_folder
    from glpn_deploy.errors import WriteError

    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise WriteError(f"--out {folder}: {there} is no folder", fix="choose another")
    with staging_folder(there / "report.json"):
        pass


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def parse_pythons(words: Sequence[str]) -> dict[str, str]:
    """``tensorrt=/opt/kit/python`` as a mapping.

    Raises:
        InputError: A word has no ``=``.
    """
    from glpn_deploy.errors import InputError

    for word in words:
        if not all(word.partition("=")):
            raise InputError(
                f"--python {word}", expected="BACKEND=PYTHON", fix="write tensorrt=/opt/kit/python"
            )
    return {name: path for name, _, path in (word.partition("=") for word in words)}


def _precisions(text: str | None) -> tuple[Precision, ...] | None:
    from glpn_deploy.errors import InputError
    from glpn_deploy.runtimes.base import PRECISIONS

    words = _words(text)
    if words is None:
        return None
    unknown = [word for word in words if word not in PRECISIONS]
    if unknown:
        raise InputError(f"--precisions {unknown[0]}", expected=f"some of {', '.join(PRECISIONS)}")
    return tuple(precision for precision in PRECISIONS if precision in words)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from glpn_deploy.errors import InputError

    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text!r}", expected="numbers separated by commas") from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{option} {text!r}", expected="finite numbers separated by commas")
    if option == "--batches" and any(number != int(number) for number in numbers):
        raise InputError(f"{option} {text!r}", expected="whole numbers separated by commas")
    return numbers


_BRIEF = {  # fits 80 characters; the files have the rest
    "median, ms": "ms",
    "±": "±",
    "images/s": "img/s",
    "times baseline": "× baseline",
    "AbsRel to reference": "AbsRel",
    "memory, MiB": "MiB",
    "on disk, MB": "MB",
    "J/image": "J",
}


def _print(console: Console, report: Report) -> None:
    """The table, what was not stable or not run, and the headlines."""
    from rich.table import Table

    from glpn_deploy.benchmarks.report.report_cells import cells, conditions, used_columns
    from glpn_deploy.benchmarks.report.report_markdown import accuracy_table, accuracy_title, load_table

    columns = [name for name in used_columns(report.rows) if name in _BRIEF]
    for shape, group in itertools.groupby(report.rows, key=lambda row: row.shape):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(shape, no_wrap=True)
        for name in columns:
            table.add_column(_BRIEF[name], justify="right", no_wrap=True)
        for row in group:
            mark = "[green]✓[/]" if row.stable else "[yellow]![/]"
            table.add_row(
                f"{mark} {row.backend} {row.precision}",
                *(cells(row)[name].replace(" to ", "–") for name in columns),
            )
        console.print()
        console.print(table)
    for title, (head, body) in (
        (accuracy_title(report), accuracy_table(report)),
        ("Under load", load_table(report)),
    ):
        if body:
            table = Table(*head, box=None, pad_edge=False)
            for line_of_cells in body:
                table.add_row(*line_of_cells)
            console.print(f"\n{title}:", markup=False)
            console.print(table)
    console.print()
    for row in report.rows:
        if not row.stable:
            console.print(f"! {row.key}: {'; '.join(row.reasons.values())}", style="yellow", markup=False)
    for item in report.not_run:
        console.print(f"not run: {item.name}: {item.reason}", style="dim", markup=False)
    for line in conditions(report)[-2:]:
        console.print(line, style="dim", markup=False)
    for headline in report.headlines:
        console.print(str(headline), style="bold", markup=False)


main = command(bench)

if __name__ == "__main__":
    main()
