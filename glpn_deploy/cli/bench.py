"""glpn-bench: how fast is each backend and precision of a bundle here, and how far is its depth?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from glpn_deploy.benchmarks.options import BenchOptions, EvalChoice
from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError


def bench(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    options: partial[BenchOptions],
    dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"] | None,
        typer.Option("--eval", help="Also judge each backend and precision on a data set."),
    ] = None,
    eval_path: Annotated[Path | None, typer.Option(help="Where the data set lies.")] = None,
    eval_count: Annotated[int | None, typer.Option(min=1, help="Rooms to judge on [default: 500].")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json, report.md and report.html [default: BUNDLE-bench]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of every backend and artefact that this machine can run.

    Each case lives in a fresh process; all are measured in interleaved rounds on the same real images,
    beside their error against PyTorch's FP32 depth. What was not stable says so and gets no headline.
    Exit status: 0 done (rows that could not run are listed), 1 the machine could not, or Ctrl-C ended it
    (the shapes that were complete are written), 2 wrong use.

    Example: glpn-bench glpn-nyu --shapes 480x640 --batches 1,4
    """
    choice = None
    if dataset is not None:
        place = None if eval_path is None else str(eval_path)
        choice = EvalChoice(dataset=dataset, path=place, count=eval_count)
    elif eval_path is not None or eval_count is not None:
        name = "--eval-path" if eval_count is None else "--eval-count"
        raise InputError(f"{name} without --eval", expected="a data set to judge on, such as --eval rooms")
    from glpn_deploy.cli.working.bench import run

    run(bundle, options(evaluate=choice), out, as_json=as_json)


main = command(bench)

if __name__ == "__main__":
    main()
