"""glpn-export: a checkpoint in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.cli.app import ConsoleProgress, command, output, print_json
from glpn_deploy.cli.options import JsonOption, OfflineOption
from glpn_deploy.config import NormEps


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder in HF format, hub id (vinvino02/glpn-nyu), or the authors' .ckpt."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write: new, empty, or a bundle to replace.")],
    opset: Annotated[
        int,
        typer.Option(
            min=17,
            max=25,
            help="ONNX opset. 17 is the newest that every supported engine reads (TensorRT 8.6 stops there, "
            "10.x at 20). 20 writes Gelu as one node; 23 writes attention as one node, for ONNX Runtime 1.23 "
            "or later and TensorRT 11. In ONNX Runtime on a CPU they are about equally fast.",
        ),
    ] = 17,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Hold the ONNX file against PyTorch over a sweep of shapes before the bundle is finished; "
            "--no-verify skips the proof, and the manifest says so.",
        ),
    ] = True,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest difference allowed, as a share of max_depth [default: 1e-5]."),
    ] = None,
    max_depth: Annotated[
        float | None,
        typer.Option(
            help="Depth [m] at which the network saturates; overrides the checkpoint's (KITTI: 80)."
        ),
    ] = None,
    norm_eps: Annotated[
        NormEps | None,
        typer.Option(
            help="LayerNorm epsilons: hf runs all at 1e-5 as transformers does, original uses the authors' "
            "1e-6 in block and stage norms [default: the checkpoint's, else hf]."
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Photograph to keep in the bundle for later verification; may be repeated."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision: branch, tag or commit.")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a GLPN checkpoint into a verified bundle.

    The bundle holds the network as ONNX (dynamic in batch, height and width), its configs, a few
    inputs with the depth PyTorch gave for them, and a manifest with digests and the measured
    difference. Exit status: 0 done, 1 the depth moved or the export failed, 2 wrong use.

    Example: glpn-export vinvino02/glpn-nyu glpn-nyu
    """
    from glpn_deploy.errors import MissingDependencyError
    from glpn_deploy.runtimes.registry import require_backend

    require_backend("torch")
    try:
        from glpn_deploy.exporters.build import BuildOptions, build_bundle
        from glpn_deploy.exporters.to_onnx import OnnxOptions
    except ImportError as error:
        raise MissingDependencyError(
            f"exporting needs {error.name}, which is not installed",
            fix='pip install "glpn-deploy[cpu,export]"',
        ) from error
    console = output(as_json=as_json)
    options = BuildOptions(
        onnx=OnnxOptions(opset=opset),
        verify=verify,
        tolerance=tolerance,
        golden_images=tuple(image or ()),
        max_depth=max_depth,
        norm_eps=norm_eps,
        revision=revision,
        offline=offline,
    )
    bundle = build_bundle(checkpoint, out, options, ConsoleProgress(console))
    if not verify:
        console.print("[yellow]not verified[/]: --no-verify was given, and the manifest says so")
    if as_json:
        import json

        print_json(json.loads(bundle.manifest.to_json()))
    console.print(f"\nNext:\n  glpn-predict {out} photo.jpg\n  glpn-verify {out}")


main = command(export)

if __name__ == "__main__":
    main()
