"""glpn-export: a checkpoint in, a verified bundle out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from glpn_deploy.cli.app import command
from glpn_deploy.cli.export_checks import refuse_idle_options
from glpn_deploy.cli.options import JsonOption, VerboseOption
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.exporters.options import BuildOptions, LowerOptions
from glpn_deploy.optional import needs
from glpn_deploy.options import Option
from glpn_deploy.runtimes.registry import require_backend


def export(
    context: typer.Context,
    checkpoint: Annotated[
        str,
        Option(
            "Checkpoint folder in HF format, hub id (vinvino02/glpn-nyu), or the authors' .ckpt.",
            argument=True,
        ),
    ],
    out: Annotated[
        Path | None,
        Option(
            "Bundle folder to write: new, empty, or a bundle to replace [default: NAME-bundle].",
            argument=True,
        ),
    ] = None,
    *,
    options: partial[BuildOptions],
    network: Annotated[
        str | None,
        Option(
            "Export the network that this function of yours returns; it is given the checkpoint. With "
            "--trace.",
            names=("--model",),
            metavar="MODULE:FUNCTION",
        ),
    ] = None,
    lower: partial[LowerOptions],
    truth: GroundTruthOptions,
    engine: Annotated[
        bool,
        Option(
            "Then also build TensorRT engines for this machine's GPU, for 480x640 at batch 1, of every "
            "lower precision named (else of FP32); glpn-build does it for other shapes, and elsewhere."
        ),
    ] = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a GLPN checkpoint into a verified bundle.

    The bundle holds the network as ONNX (dynamic in batch, height and width), its configs, a few
    inputs with the depth PyTorch gave for them, and a manifest with digests and the measured
    difference. --fp16, --bf16, --int8 and --fp8 add typed graphs that any engine compiles as they
    stand, each held to an accuracy budget; with --eval delta1 may fall by 0.001 (fp16), 0.005 (bf16),
    0.01 (int8) and 0.02 (fp8). Exit status: 0 done, 1 the depth moved, a precision missed its budget or
    the export failed, 2 wrong use.

    Example: glpn-export vinvino02/glpn-nyu glpn-nyu --fp16 --calibration photos/
    """
    asked = tuple(name for name in lower.keywords.get("precisions", ()) if name != "fp32")
    refuse_idle_options(context, asked)
    require_backend("torch")
    with needs("exporting", "cpu", "export"):
        from glpn_deploy.cli.working.export import run
        from glpn_deploy.cli.working.named_network import make_network
    from glpn_deploy.datasets.registry import open_ground_truth

    given: dict[str, Any] = {}
    if asked:
        require_backend("onnxruntime")
        verify = options.keywords.get("verify", BuildOptions.verify)
        given["lower"] = lower(precisions=asked, ground_truth=open_ground_truth(truth), sweep=verify)
    wanted = options(**given)
    made = None if network is None else make_network(network, checkpoint)
    place = out or Path(f"{_name(checkpoint)}-bundle")
    run(checkpoint, place, wanted, network=made, engine=engine, verbose=verbose, as_json=as_json)


def _name(checkpoint: str) -> str:
    """What a bundle is called after: the last part of a path or hub id, without a file's suffix."""
    name = Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint.rpartition("/")[2]
    return name.removesuffix(".ckpt")


main = command(export)

if __name__ == "__main__":
    main()
