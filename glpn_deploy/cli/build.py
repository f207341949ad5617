"""glpn-build: a bundle's network as an engine, for the GPU it stands on or for the RTX cards of others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.engine.engine_options import EngineOptions, WantedEngines
from glpn_deploy.options import ADVANCED


def build(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle folder that glpn-export made; with --explain also any .onnx file.")
    ],
    *,
    engines: WantedEngines,
    options: partial[EngineOptions],
    rtx: Annotated[
        bool,
        typer.Option(
            "--rtx",
            help="Build with TensorRT for RTX instead, for the RTX cards of others, on Linux and Windows; "
            "needs no GPU. The machine that runs it finishes the work at the first start.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    sm: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="With --rtx: compute capabilities to build for, of 75, 80, 86 (RTX 30), 89 (RTX 40), 120 "
            "(RTX 50) and 121 [default: those of 80, 86, 89 and 120 that have the precision].",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Run the engine on the goldens, and where ONNX Runtime is installed on rendered rooms, "
            "before it is kept. An engine of --rtx is run where this machine has such a card.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built; needs no GPU, writes nothing.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Compile, and instead of keeping the engine tell of its kernels, traffic and memory; with "
            "--precision given more than once, side by side. Without a GPU, or with --rtx or --sm, by "
            "TensorRT for RTX (for 89 where --sm does not say).",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT engines of a bundle, for the GPU of this machine.

    TensorRT compiles an ONNX file for one kind of GPU, one TensorRT and the shapes named here; an engine
    that does not fit is refused when it is loaded, with the command that builds it again. What was built
    is run on the bundle's goldens; only an engine that gives the reference's depth stays, in
    BUNDLE/engines with a sidecar beside it. Exit status: 0 done, 1 no GPU, the build failed or the depth
    moved, 2 wrong use, a damaged bundle or no TensorRT.

    Example: glpn-build glpn-nyu --precision fp16 --size 480x640 --batch 1:4
    """
    wanted = options(profiles=engines.profiles)
    precisions = engines.precisions or (None,)
    if explain:
        from glpn_deploy.cli.working.explain import run as run_explain

        run_explain(bundle, precisions, wanted, rtx=rtx, sm=sm, as_json=as_json)
        return
    if sm is not None and not rtx:
        raise InputError(
            "--sm without --rtx", fix="add --rtx; TensorRT itself builds for the GPU it stands on"
        )
    from glpn_deploy.cli.working.build import run

    run(
        bundle,
        precisions,
        wanted,
        rtx=rtx,
        sm=sm,
        verify=verify,
        dry_run=dry_run,
        as_json=as_json,
    )


main = command(build)

if __name__ == "__main__":
    main()
