"""glpn-export: a checkpoint in, a verified bundle out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glpn_deploy.cli.app import command, output, print_json
from glpn_deploy.cli.export_checks import LOWER_PANEL, refuse_idle_options, require_engines
from glpn_deploy.cli.options import JsonOption, OfflineOption
from glpn_deploy.model.config import NormEps

if TYPE_CHECKING:
    from rich.console import Console

    from glpn_deploy.bundle.bundle import Bundle
    from glpn_deploy.errors import BudgetError
    from glpn_deploy.exporters.build import Build
    from glpn_deploy.runtimes.base import Precision

_NOT_FOLDERS: dict[str, Literal["rooms", "random"]] = {"rooms": "rooms", "random": "random"}


def export(
    context: typer.Context,
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
            help="Hold the ONNX file against PyTorch, and lower precisions against it, over a sweep of "
            "shapes before the bundle is finished; --no-verify skips the proof, and the manifest says so.",
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
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Also write model.fp16.onnx.", rich_help_panel=LOWER_PANEL)
    ] = False,
    bf16: Annotated[
        bool,
        typer.Option(
            "--bf16", help="Also write model.bf16.onnx (opset 22: TensorRT 11).", rich_help_panel=LOWER_PANEL
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Also write model.int8.onnx, with Q/DQ pairs.", rich_help_panel=LOWER_PANEL
        ),
    ] = False,
    fp8: Annotated[
        bool,
        typer.Option(
            "--fp8", help="Also write model.fp8.onnx (Hopper, Ada, Thor).", rich_help_panel=LOWER_PANEL
        ),
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Photographs of the kind the camera will see (sub-folders are not searched): INT8 and FP8 "
            "find their ranges on four fifths of them, and the rest judge every precision. rooms takes "
            "rendered rooms, which is the default for the demo network and, to judge FP16 and BF16, for all; "
            "random calibrates on noise, to try it out.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = None,
    calibration_method: Annotated[
        Literal["minmax", "percentile"],
        typer.Option(help="How ranges are found.", rich_help_panel=LOWER_PANEL),
    ] = "minmax",
    calibration_percentile: Annotated[
        float,
        typer.Option(
            help="For the method percentile: how many percent of the values a range shall hold, above 50 and "
            "up to 100.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = 99.999,
    calibration_images: Annotated[
        int, typer.Option(min=2, help="Most images to find ranges on.", rich_help_panel=LOWER_PANEL)
    ] = 128,
    target: Annotated[
        Literal["tensorrt", "cpu"],
        typer.Option(
            help="What INT8 is for; the recipes differ, and one is slow where the other is fast.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = "tensorrt",
    half_io: Annotated[
        bool,
        typer.Option(
            "--half-io",
            help="FP16 graphs, and INT8 and FP8 ones for TensorRT, take and give float16 tensors: for "
            "engines and callers that hand such tensors over. Depth is then rounded to steps of 8 mm from "
            "8 m on, and of 6 cm from 64 m on. BF16 graphs keep float32. This package still takes and gives "
            "float32.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = False,
    max_abs_rel: Annotated[
        float | None,
        typer.Option(
            help="Largest mean relative difference from FP32's depth [default: fp16 0.001, bf16 0.01, int8 "
            "0.02, fp8 0.05]. Where it is exceeded, sensitive nodes are raised until it is met.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = None,
    max_abs_m: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of any pixel from FP32's depth [m].", rich_help_panel=LOWER_PANEL
        ),
    ] = None,
    eval_dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"] | None,
        typer.Option(
            "--eval",
            help="Also judge against ground truth: delta1 may fall by 0.001 (fp16), 0.005 (bf16), 0.01 "
            "(int8), 0.02 (fp8).",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = None,
    eval_path: Annotated[
        Path | None, typer.Option(help="Where that data set lies.", rich_help_panel=LOWER_PANEL)
    ] = None,
    verdict: Annotated[
        bool,
        typer.Option(
            "--verdict/--no-verdict",
            help="Measure each precision's latency beside FP32's, where this machine can run it.",
            rich_help_panel=LOWER_PANEL,
        ),
    ] = True,
    engine: Annotated[
        bool,
        typer.Option(
            "--engine",
            help="Then also build TensorRT engines for this machine's GPU, for 480x640 at batch 1, of every "
            "lower precision named (else of FP32); glpn-build does it for other shapes, and elsewhere.",
        ),
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Hub revision: branch, tag or commit.")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a GLPN checkpoint into a verified bundle.

    The bundle holds the network as ONNX (dynamic in batch, height and width), its configs, a few
    inputs with the depth PyTorch gave for them, and a manifest with digests and the measured
    difference. --fp16, --bf16, --int8 and --fp8 add typed graphs that any engine compiles as they
    stand, each held to an accuracy budget. Exit status: 0 done, 1 the depth moved, a precision missed
    its budget or the export failed, 2 wrong use.

    Example: glpn-export vinvino02/glpn-nyu glpn-nyu --fp16 --calibration photos/
    """
    from glpn_deploy.errors import MissingDependencyError
    from glpn_deploy.runtimes.registry import require_backend

    flags: dict[Precision, bool] = {"fp16": fp16, "bf16": bf16, "int8": int8, "fp8": fp8}
    asked = tuple(name for name, wanted in flags.items() if wanted)
    refuse_idle_options(context, asked)
    require_backend("torch")
    try:
        from glpn_deploy.exporters.build import BuildOptions, build
        from glpn_deploy.exporters.search.recipes import tensorrt_for
        from glpn_deploy.exporters.to_onnx import DEFAULT_OPSET, OnnxOptions
    except ImportError as error:
        raise MissingDependencyError(
            f"exporting needs {error.name}, which is not installed",
            fix='pip install "glpn-deploy[cpu,export]"',
        ) from error
    from glpn_deploy.checkpoints.hub import is_demo
    from glpn_deploy.datasets.registry import open_dataset

    console = output(as_json=as_json)
    lower = None
    if asked:
        require_backend("onnxruntime")
        from glpn_deploy.exporters.calibration.calibration import CalibrationOptions
        from glpn_deploy.exporters.lower import LowerOptions

        lower = LowerOptions(
            precisions=asked,
            images=None if calibration is None else _NOT_FOLDERS.get(calibration, Path(calibration)),
            calibration=CalibrationOptions(calibration_method, calibration_percentile, calibration_images),
            target=target,
            max_abs_rel=max_abs_rel,
            max_abs_m=max_abs_m,
            ground_truth=None if eval_dataset is None else open_dataset(eval_dataset, eval_path),
            sweep=verify,
            verdict=verdict,
            io="half" if half_io else "fp32",
        )
    if engine:
        require_engines(asked, opset, target, verify=verify)
    elif asked and target == "tensorrt" and opset > DEFAULT_OPSET:
        warnings.warn(
            f"opset {opset} takes {tensorrt_for(opset)}; the default, {DEFAULT_OPSET}, takes "
            f"{tensorrt_for(DEFAULT_OPSET)}",
            stacklevel=2,
        )
    options = BuildOptions(
        onnx=OnnxOptions(opset=opset),
        lower=lower,
        verify=verify,
        tolerance=tolerance,
        golden_images=tuple(image or ()),
        max_depth=max_depth,
        norm_eps=norm_eps,
        revision=revision,
        offline=offline,
    )
    built = build(checkpoint, out, options)
    bundle = built.bundle
    if not verify:
        console.print("[yellow]not verified[/]: --no-verify was given, and the manifest says so")
    if as_json:
        import json

        print_json(json.loads(bundle.manifest.to_json()))
    _say(console, built, opset)
    if engine:
        _build_engines(console, bundle, asked, verify=verify)
    shown = f"./{out}" if is_demo(str(out)) else out  # the bare word is the package's own checkpoint
    console.print(f"\nNext:\n  glpn-predict {shown} photo.jpg\n  glpn-verify {shown}")
    if bundle.manifest.refused:
        raise _without(built)


def _without(built: Build) -> BudgetError:
    """What is said where the bundle lacks a precision that was asked for."""
    from glpn_deploy.errors import BudgetError

    bundle = built.bundle
    refused = [report for report in built.searches if report.chosen is None]
    over = ", ".join(report.precision for report in refused if report.candidates)
    parts = []
    if over and len(bundle.manifest.artefacts) == 1:
        parts.append(f"only FP32 meets the budget of {over}")
    elif over:
        parts.append(f"no graph of {over} is within its budget")
    parts += [
        f"{report.precision} could not be made ({report.reason.rstrip('.')})"
        for report in refused
        if not report.candidates
    ]
    have = " or ".join(artefact.file for artefact in bundle.manifest.artefacts)
    more = ", or allow more with --max-abs-rel or --max-abs-m" if over else ""
    return BudgetError(f"{'; '.join(parts)}: the bundle goes without", fix=f"deploy its {have}{more}")


def _build_engines(console: Console, bundle: Bundle, asked: tuple[Precision, ...], *, verify: bool) -> None:
    """An engine of every precision that was asked for and is within its budget, else of FP32."""
    from glpn_deploy.cli.build import say_engine
    from glpn_deploy.exporters.engines import build_engine

    have = {artefact.precision for artefact in bundle.manifest.artefacts}
    wanted: list[Precision] = [name for name in asked if name in have] if asked else ["fp32"]
    for precision in wanted:
        built = build_engine(bundle.folder, precision, verify=verify)
        say_engine(console, built)


def _say(console: Console, built: Build, opset: int) -> None:
    """What was tried for every lower precision, what it cost, and whether it pays here."""
    from rich.markup import escape

    from glpn_deploy.exporters.search.recipes import tensorrt_for

    for report in built.searches:
        console.print(
            f"\n[bold]{report.precision}[/], checked on {report.images} images ({report.images_from}):"
        )
        for candidate in report.candidates:
            mark = "[green]✓[/]" if candidate.passed else "[red]✗[/]"
            console.print(f"  {mark} {escape(str(candidate))}")
        if report.reason:
            console.print(f"  [red]✗[/] could not be made: {escape(report.reason)}")
    for artefact in built.bundle.manifest.artefacts:
        if artefact.precision == "fp32":
            continue
        if artefact.opset != opset:
            console.print(
                f"\n{artefact.file} has opset {artefact.opset} instead of {opset}, the first with "
                f"{artefact.precision}: it takes {tensorrt_for(artefact.opset)}"
            )
        if artefact.verdict is not None:
            console.print(f"\n{artefact.verdict['sentence']}", markup=False)


main = command(export)

if __name__ == "__main__":
    main()
