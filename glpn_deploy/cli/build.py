"""glpn-build: a bundle's network as a TensorRT engine for the GPU it stands on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from glpn_deploy.cli.app import command, output, print_json
from glpn_deploy.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from glpn_deploy.bundle.engine_fields import Compatibility
    from glpn_deploy.bundle.engine_sidecar import Sidecar
    from glpn_deploy.exporters.engines import EnginePlan
    from glpn_deploy.runtimes.base import Precision

_SHAPES = "Shapes"
_BUILDER = "Builder"
_CARRYING = "Other GPUs and versions"
_SHOWN_WARNINGS = 5
_LEVELS: dict[str, Compatibility] = {"ampere": "ampere_plus", "same-sm": "same_compute_capability"}


def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder that glpn-export made.")],
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, fp16, bf16, int8 or fp8: one of the bundle's; may be repeated, an engine each "
            "[default: fp16 where the bundle has it, else fp32]."
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
        str | None,
        typer.Option("--max", metavar="NxHxW", help="Its largest shape.", rich_help_panel=_SHAPES),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="A whole profile, such as 1x256x320:1x480x640:4x480x640; may be repeated.",
            rich_help_panel=_SHAPES,
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MB",
            help="Most scratch memory a kernel may take [default: TensorRT's; on a Jetson a share of what is "
            "free].",
            rich_help_panel=_BUILDER,
        ),
    ] = None,
    tactic_memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MB",
            help="Most memory to try kernels in [default: as for --workspace].",
            rich_help_panel=_BUILDER,
        ),
    ] = None,
    level: Annotated[
        int,
        typer.Option(
            min=0,
            max=5,
            help="How long to look for faster kernels: 0 builds soonest, 5 may run fastest.",
            rich_help_panel=_BUILDER,
        ),
    ] = 3,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read kernel timings from this file and add to it: the next build is quicker, and chooses "
            "the same kernels.",
            rich_help_panel=_BUILDER,
        ),
    ] = None,
    tactic_sources: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Libraries to take kernels from, by TensorRT's names: cublas, cublas_lt, cudnn, "
            "edge_mask_convolutions, jit_convolutions, as far as the version has them [default: TensorRT's].",
            rich_help_panel=_BUILDER,
        ),
    ] = None,
    tf32: Annotated[
        bool,
        typer.Option(
            "--tf32",
            help="Let FP32 products round to TF32: faster, with FP16's precision and budget.",
            rich_help_panel=_BUILDER,
        ),
    ] = False,
    hardware_compatible: Annotated[
        Literal["ampere", "same-sm"] | None,
        typer.Option(
            help="Also run on every GPU from Ampere on (not on a Jetson), or on all of this compute "
            "capability (TensorRT 10.9); slower [default: this kind of GPU only].",
            rich_help_panel=_CARRYING,
        ),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible",
            help="For other programs, which can run it with a later TensorRT if they load this one's lean "
            "runtime; glpn-predict runs it with this TensorRT only. May be slower.",
            rich_help_panel=_CARRYING,
        ),
    ] = False,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip",
            help="Leave the weights out of the engine (TensorRT 10); they are put in from the ONNX file when "
            "it is loaded.",
            rich_help_panel=_CARRYING,
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Let TensorRT put other weights into the engine later; may be slower.",
            rich_help_panel=_CARRYING,
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Run the engine on the goldens, and where ONNX Runtime is installed on rendered rooms, "
            "before it is kept.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built; needs no GPU, writes nothing.")
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
    from glpn_deploy.bundle.engine_profile import parse_profiles
    from glpn_deploy.exporters.engine.engine_config import EngineOptions
    from glpn_deploy.exporters.engines import build_engine, plan_engine, require_tensorrt

    console = output(as_json=as_json)
    options = EngineOptions(
        profiles=parse_profiles(
            () if shapes is None else (shapes,), batch, minimum, optimum, maximum, tuple(profile or ())
        ),
        workspace_mb=workspace,
        tactic_dram_mb=tactic_memory,
        level=level,
        timing_cache=timing_cache,
        hardware_compatibility="none" if hardware_compatible is None else _LEVELS[hardware_compatible],
        version_compatible=version_compatible,
        strip=strip,
        refit=refit,
        tactic_sources=None if tactic_sources is None else _names(tactic_sources),
        tf32=tf32,
    )
    wanted = [None] if precision is None else [_precision(name) for name in dict.fromkeys(precision)]
    plans = [plan_engine(bundle, name, options) for name in wanted]  # all are looked up before the first
    if dry_run:
        for plan in plans:
            _say_plan(console, plan)
        if as_json:
            print_json({"engines": [plan.to_dict() for plan in plans]})
        return
    require_tensorrt()
    built = []
    for plan in plans:
        engine = build_engine(bundle, plan.options.precision, options, verify)
        built.append(say_engine(console, engine))
    if as_json:
        print_json({"engines": built})
    shown = " ".join(f"--precisions {','.join(plan.artefact.precision for plan in plans)}".split())
    console.print(
        f"\nNext:\n  glpn-verify {bundle}"
        f"\n  glpn-predict {bundle} photo.jpg --backend tensorrt --precision {plans[0].artefact.precision}"
        f"\n  glpn-bench {bundle} --backends tensorrt,onnxruntime {shown}",
        markup=False,
    )


def _say_plan(console: Console, plan: EnginePlan) -> None:
    given = plan.options
    console.print(f"{plan.artefact.file} -> engines/{plan.file_name()}", style="bold", markup=False)
    for profile in given.profiles:
        console.print(f"  profile {profile.name}: smallest:best:largest {profile}", markup=False)
    sizes = {"workspace": given.workspace_mb, "tactic memory": given.tactic_dram_mb}
    settings = [f"level {given.level}", *(f"{name} {mb} MB" for name, mb in sizes.items() if mb is not None)]
    if given.timing_cache is not None:
        settings.append(f"timing cache {given.timing_cache}")
    if given.tactic_sources is not None:
        settings.append(f"tactic sources {', '.join(given.tactic_sources)}")
    settings.append("TF32 allowed" if given.tf32 else "no TF32")
    console.print(f"  {', '.join(settings)}", markup=False)


def say_engine(console: Console, engine: Path) -> dict[str, Any]:
    """Prints what was built, and returns it for JSON."""
    import json

    from glpn_deploy.bundle.engine_sidecar import read_sidecar

    sidecar = read_sidecar(engine)
    layers = ", ".join(f"{count} {name}" for name, count in sidecar.layers.items()) or "not told"
    console.print(f"\n{engine}", style="bold", markup=False)
    console.print(
        f"  {sidecar.bytes / 1e6:.1f} MB, built in {sidecar.build_s:.0f} s with TensorRT {sidecar.tensorrt} "
        f"for {sidecar.gpu} (sm {sidecar.sm})\n  layers: {layers}",
        markup=False,
    )
    if sidecar.device_memory_bytes is not None:
        memory = f"{sidecar.device_memory_bytes / 1e6:.1f} MB for each execution context, beside the weights"
        console.print(f"  device memory: {memory}", markup=False)
    for warning in sidecar.warnings[:_SHOWN_WARNINGS]:
        console.print(f"  [yellow]TensorRT warns:[/] {escape(warning)}")
    if len(sidecar.warnings) > _SHOWN_WARNINGS:
        console.print(f"  and {len(sidecar.warnings) - _SHOWN_WARNINGS} warnings more, in the sidecar")
    _say_proof(console, sidecar)
    return {"path": str(engine), **json.loads(sidecar.to_json())}


def _say_proof(console: Console, sidecar: Sidecar) -> None:
    if sidecar.parity is None:
        console.print("  [yellow]not verified[/]: --no-verify was given, and the sidecar says so")
        return
    if not sidecar.parity["reports"]:
        console.print("  [bold yellow]nothing was compared[/]: whether its depth is right is not known")
    for report in sidecar.parity["reports"]:
        worst = max(case["max_abs_m"] for case in report["cases"])
        console.print(
            f"  [green]✓[/] {len(report['cases'])} batches against {report['reference']['backend']}: "
            f"at most {worst:.2g} m off"
        )
    for shape, reason in sidecar.parity["not_checked"].items():
        console.print(f"  [yellow]not verified at {shape}[/]: {escape(reason)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _precision(name: str) -> Precision:
    from glpn_deploy.errors import InputError
    from glpn_deploy.runtimes.base import PRECISIONS

    for known in PRECISIONS:
        if name == known:
            return known
    raise InputError(f"--precision {name!r}", expected=f"one of {', '.join(PRECISIONS)}")


main = command(build)

if __name__ == "__main__":
    main()
