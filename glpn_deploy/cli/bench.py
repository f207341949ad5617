"""glpn-bench: how fast is each backend and precision of a bundle here, and how far is its depth?"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from glpn_deploy.benchmarks.options import BenchOptions, EvalChoice
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError
from glpn_deploy.options import Former


def bench(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; none with --server.")] = None,
    *,
    options: partial[BenchOptions],
    serving: ServerOptions,
    dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"] | None,
        typer.Option("--eval", help="Also judge each backend and precision on a data set."),
    ] = None,
    data_path: Annotated[
        Path | None, typer.Option(help="Where the data set lies."), Former(("--eval-path",))
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Rooms to judge on [default: 500]."), Former(("--eval-count",))
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.json, report.md and report.html [default: BUNDLE-bench]."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: few rounds, no stages, wide intervals.")
    ] = False,
    remember: Annotated[
        bool,
        typer.Option(
            "--remember",
            help="Let --backend auto take what was fastest here in each precision; with --within also that "
            "precision, where none is asked for.",
        ),
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was remembered of this network, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure which backend and precision of a bundle is the fastest on this machine.

    Each case lives in a fresh process; all are measured in interleaved rounds on the same real images,
    beside their error against PyTorch's FP32 depth. Which one is faster is told by the ratio of their times
    in the same rounds, where it is sure.
    Exit status: 0 done (rows that could not run are listed), 1 the machine could not, or Ctrl-C ended it
    (the shapes that were complete are written), 2 wrong use.

    Example: glpn-bench glpn-nyu --remember --within 0.01
    """
    if serving.server is not None:
        from glpn_deploy.cli.working.bench_server import run as run_server

        if bundle is not None:
            raise InputError(f"the bundle {bundle} and --server", expected="one of them")
        asked = options()
        run_server(serving, asked.images, asked.load_seconds, as_json=as_json)
        return
    if bundle is None:
        raise InputError("no bundle is given", expected="a bundle's folder, or --server URL")
    choice = None
    if dataset is not None:
        place = None if data_path is None else str(data_path)
        choice = EvalChoice(dataset=dataset, path=place, count=count)
    elif data_path is not None or count is not None:
        name = "--data-path" if count is None else "--count"
        raise InputError(f"{name} without --eval", expected="a data set to judge on, such as --eval rooms")
    from glpn_deploy.benchmarks.options import QUICK, RoundOptions

    chosen = options(evaluate=choice)
    if quick and chosen.rounds != RoundOptions():
        raise InputError("--quick with --seconds or --width", expected="one of them")
    if forget and remember:
        raise InputError("--forget with --remember", expected="one of them")
    from glpn_deploy.cli.working.bench import run, run_forget

    if forget:
        run_forget(bundle, as_json=as_json)
    else:
        chosen = dataclasses.replace(chosen, rounds=QUICK, stages=False) if quick else chosen
        run(bundle, chosen, out, remembering=remember, as_json=as_json)


main = command(bench)

if __name__ == "__main__":
    main()
