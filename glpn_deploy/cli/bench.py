"""glpn-bench: how fast is each backend and precision of a bundle here, and how far is its depth?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from glpn_deploy.benchmarks.options import QUICK, BenchOptions, RoundOptions
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError
from glpn_deploy.options import Option


def bench(
    bundle: Annotated[Path | None, Option("Bundle folder; none with --server.", argument=True)] = None,
    *,
    options: BenchOptions,
    serving: ServerOptions,
    out: Annotated[
        Path | None, Option("Folder for report.json, report.md and report.html [default: BUNDLE-bench].")
    ] = None,
    quick: Annotated[bool, Option("A first look: few rounds, no stages, wide intervals.")] = False,
    remember: Annotated[
        bool,
        Option(
            "Let --backend auto take what was fastest here in each precision; with --within also that "
            "precision, where none is asked for."
        ),
    ] = False,
    forget: Annotated[bool, Option("Forget what was remembered of this network, and end.")] = False,
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
        heeded = BenchOptions(images=options.images, load_seconds=options.load_seconds)
        if options != heeded or out is not None or quick or remember or forget:
            raise InputError(
                "--server with options of a bundle's rows",
                expected="--images, --load-seconds, --model, --callers or --rate, and --json beside it",
                fix="the server decides the rest: glpn-serve --help",
            )
        run_server(serving, options.images, options.load_seconds, as_json=as_json)
        return
    if bundle is None:
        raise InputError("no bundle is given", expected="a bundle's folder, or --server URL")
    if quick and options.rounds != RoundOptions():
        raise InputError("--quick with --seconds or --width", expected="one of them")
    if forget and remember:
        raise InputError("--forget with --remember", expected="one of them")
    if remember and options.mode not in ("auto", "latency"):
        raise InputError(
            f"--remember with --mode {options.mode}",
            expected="--mode latency, in which backends are compared",
        )
    from glpn_deploy.cli.working.bench import run, run_forget

    if forget:
        run_forget(bundle, as_json=as_json)
        return
    if quick:
        options = dataclasses.replace(options, rounds=QUICK, stages=False)
    run(bundle, options, out, remembering=remember, as_json=as_json)


main = command(bench)

if __name__ == "__main__":
    main()
