"""glpn-build: a bundle's network as an engine, for this machine's GPU or for other people's RTX cards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.engine.engine_options import EngineOptions, WantedEngines
from glpn_deploy.options import Option


def build(
    bundle: Annotated[
        Path,
        Option("Bundle folder that glpn-export made; with --explain also any .onnx file.", argument=True),
    ],
    *,
    engines: WantedEngines,
    options: EngineOptions,
    verify: Annotated[
        bool,
        Option(
            "Run the engine on the goldens, and where ONNX Runtime is installed on rendered rooms, before it "
            "is kept. An engine of --rtx is run where this machine has such a card."
        ),
    ] = True,
    dry_run: Annotated[bool, Option("Say what would be built; needs no GPU, writes nothing.")] = False,
    explain: Annotated[
        bool,
        Option(
            "Compile, and instead of keeping the engine tell of its kernels, traffic and memory; with "
            "--precision given more than once, side by side. Without a GPU, or with --rtx or --sm, by "
            "TensorRT for RTX (for 89 where --sm does not say)."
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
    options = dataclasses.replace(options, profiles=engines.profiles)
    if explain:
        from glpn_deploy.cli.working.explain import run as run_explain

        run_explain(bundle, engines, options, as_json=as_json)
        return
    if engines.targets is not None and not engines.rtx:
        raise InputError("--sm without --rtx", fix="add --rtx; TensorRT itself builds for this machine's GPU")
    from glpn_deploy.cli.working.build import run

    run(bundle, engines, options, verify=verify, dry_run=dry_run, as_json=as_json)


main = command(build)

if __name__ == "__main__":
    main()
