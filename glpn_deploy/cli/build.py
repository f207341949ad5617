"""glpn-build: a bundle's network as an engine, for the GPU it stands on or for the RTX cards of others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.bundle.engine_profile import parse_profiles
from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.options import bad_option
from glpn_deploy.precisions import PRECISIONS, Precision

_SHAPES, _CARRYING = "Shapes", "Other GPUs and versions"


def build(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle folder that glpn-export made; with --explain also any .onnx file.")
    ],
    *,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(PRECISIONS),
            help="One of the bundle's; may be repeated, an engine each "
            "[default: fp16 where the bundle has it, else fp32].",
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="HxW,…",
            help="Sizes that the engine takes, height x width in multiples of 32 px; a profile each "
            "[default: 480x640].",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N|MIN:MAX",
            help="Images a run: 1, 1:4 (tuned for 1) or 1:2:4 (tuned for 2) [default: 1].",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    minimum: Annotated[
        str | None,
        typer.Option(
            "--min",
            metavar="NxHxW",
            help="Smallest shape of a profile that spans sizes; needs --max. One size alone runs faster.",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    optimum: Annotated[
        str | None,
        typer.Option(
            "--opt",
            metavar="NxHxW",
            help="Shape that it is tuned for [default: the smallest batch at the largest size].",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    maximum: Annotated[
        str | None, typer.Option("--max", metavar="NxHxW", help="Its largest shape.", rich_help_panel=_SHAPES)
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="A whole profile, such as 1x256x320:1x480x640:4x480x640; may be repeated.",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    options: partial[EngineOptions],
    rtx: Annotated[
        bool,
        typer.Option(
            "--rtx",
            help="Build with TensorRT for RTX instead, for the RTX cards of others, on Linux and Windows; "
            "needs no GPU. The machine that runs it finishes the work at the first start.",
            rich_help_panel=_CARRYING,
        ),
    ] = False,
    sm: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="With --rtx: compute capabilities to build for, of 75, 80, 86 (RTX 30), 89 (RTX 40), 120 "
            "(RTX 50) and 121 [default: those of 80, 86, 89 and 120 that have the precision].",
            rich_help_panel=_CARRYING,
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

    Example: glpn-build glpn-nyu --precision fp16 --shapes 480x640 --batch 1:4
    """
    given = parse_profiles(
        () if shapes is None else (shapes,), batch, minimum, optimum, maximum, tuple(profile or ())
    )
    wanted = options(profiles=given)
    if explain:
        from glpn_deploy.cli.working.explain import run as run_explain

        run_explain(bundle, _precisions(precision), wanted, rtx=rtx, sm=sm, as_json=as_json)
        return
    if sm is not None and not rtx:
        raise InputError(
            "--sm without --rtx", fix="add --rtx; TensorRT itself builds for the GPU it stands on"
        )
    from glpn_deploy.cli.working.build import run

    run(
        bundle,
        _precisions(precision),
        wanted,
        rtx=rtx,
        sm=sm,
        verify=verify,
        dry_run=dry_run,
        as_json=as_json,
    )


def _precisions(names: list[str] | None) -> list[Precision | None]:
    """Those that were named, each once; None, the bundle's best, where none was."""
    wanted: list[Precision | None] = []
    for name in dict.fromkeys(names or ()):
        known = [precision for precision in PRECISIONS if precision == name]
        if not known:
            raise bad_option("precision", name, f"one of {', '.join(PRECISIONS)}")
        wanted += known
    return wanted or [None]


main = command(build)

if __name__ == "__main__":
    main()
