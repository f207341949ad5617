"""The work of glpn-export: what is refused before it, the bundle, the engines, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from torch import nn

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.manifest import MANIFEST, Artefact
from glpn_deploy.checkpoints.card import Origin
from glpn_deploy.checkpoints.hub import is_demo
from glpn_deploy.cli.console import PlainConsole, output, print_json, runnable, say_next
from glpn_deploy.cli.working.build import say_engine
from glpn_deploy.errors import BudgetError, ExportError, InputError
from glpn_deploy.exporters import engines
from glpn_deploy.exporters.build import Build, build
from glpn_deploy.exporters.options import DEFAULT_OPSET, BuildOptions, Oldest, Target
from glpn_deploy.exporters.search.recipes import least_opset, tensorrt_for
from glpn_deploy.gpu.tensorrt_versions import known_problem, unsupported
from glpn_deploy.precisions import Precision
from glpn_deploy.proof.checks.images import ImageErrors


def run(
    checkpoint: str,
    out: Path,
    options: BuildOptions,
    *,
    network: nn.Module | None = None,
    engine: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Exports a bundle, builds its engines where that is asked for, and prints the result.

    Args:
        checkpoint: What is exported.
        out: The bundle.
        options: Of the export.
        network: Traced and exported in the checkpoint's place, where there is one.
        engine: Also build engines.
        verbose: Tell more of what was tried.
        as_json: Print the manifest.

    Raises:
        GlpnError: The export or an engine failed, or a precision is not within its budget.
    """
    opset, verify, lower = options.onnx.opset, options.verify, options.lower
    asked = lower.precisions if lower else ()
    target = lower.target_of("int8") if lower else "tensorrt"
    console = output(as_json=as_json, verbose=verbose)
    if not is_demo(checkpoint) and (Path(checkpoint) / MANIFEST).is_file():
        raise InputError(
            f"{checkpoint} is a bundle already",
            expected="the checkpoint that it was made from: a folder in HF format, a hub id or a .ckpt",
            fix=f"run the bundle with glpn-predict {checkpoint} photo.jpg",
        )
    if engine:
        require_engines(asked, opset, target, lower.oldest if lower else None, verify=verify)
    elif (
        lower and opset > DEFAULT_OPSET and "tensorrt" in {lower.target_of(precision) for precision in asked}
    ):
        warnings.warn(
            f"opset {opset} takes {tensorrt_for(opset)}; the default, {DEFAULT_OPSET}, takes "
            f"{tensorrt_for(DEFAULT_OPSET)}",
            stacklevel=2,
        )
    if lower and "int8" in asked and target == "cpu" and lower.target is None:
        console.print(
            "INT8 is made for CPUs, since there is no NVIDIA GPU here; for TensorRT add --target tensorrt."
        )
    if network is not None:
        options = dataclasses.replace(options, onnx=dataclasses.replace(options.onnx, route="trace"))
    built = build(checkpoint if network is None else network, out, options)
    bundle = built.bundle
    if not verify:
        console.print("[yellow]not verified[/]: --no-verify was given, and the manifest says so")
    if as_json:
        print_json(json.loads(bundle.manifest.to_json()))
    if verbose:
        _say_search(console, built, opset)
    if asked:
        _say_table(console, built)
    if engine:
        _build_engines(console, bundle, asked, verify=verify)
    source = Origin.of_manifest(bundle.manifest.source)
    licence = f"licence: {source.licence or 'its source names none'}"
    console.print("\n" + "\n".join(filter(None, (source.advice, licence))), markup=False)
    shown = f"./{out}" if is_demo(str(out)) else out  # the bare word is the package's own checkpoint
    say_next(console, f"{runnable('glpn-predict')} {shown} photo.jpg", f"{runnable('glpn-verify')} {shown}")
    if bundle.manifest.refused:
        raise _without(built)


def require_engines(
    asked: Sequence[Precision], opset: int, target: Target, oldest: Oldest | None = None, *, verify: bool
) -> None:
    """Refuses what `exporters.engines.build_engine` would refuse after the export.

    Args:
        asked: The lower precisions; an engine each, or of FP32 where there are none.
        opset: The opset asked for; a precision takes its own where that is later.
        target: What INT8 is for.
        oldest: The oldest TensorRT that must read the graphs.
        verify: Whether the engines will be compared with the reference.

    Raises:
        BackendError: There is no usable GPU or TensorRT.
        ExportError: The GPU or the TensorRT has no such precision.
        InputError: TensorRT does not read an opset, would run a graph for CPUs, or has to be verified.
    """
    if target == "cpu" and "int8" in asked:
        raise InputError(
            "--engine of an INT8 graph for CPUs, whose quantisation TensorRT does not run well",
            fix="leave out --target cpu, or --engine",
        )
    device, trt = engines.require_tensorrt()
    for precision in asked:
        least = least_opset(precision, target, oldest)
        if least > trt.max_opset:  # before the opset asked for: no other would help
            raise InputError(
                f"--{precision} --engine: {precision} takes opset {least}, and TensorRT {trt.text} reads "
                f"up to {trt.max_opset}",
                expected=tensorrt_for(least),
                fix="add --for-tensorrt 8.6"
                if precision == "int8"
                else f"leave out --{precision}, or --engine and build it elsewhere",
            )
    engines.require_tensorrt(opset)
    wanted: Sequence[Precision] = asked or ("fp32",)
    for name in wanted:
        reason = unsupported(trt, name, device)
        if reason is not None:
            raise ExportError(reason, fix=f"leave out --{name}, or --engine and build it elsewhere")
        problem = known_problem(trt.version, name, device.sm)
        if problem is not None and not verify:
            raise InputError(
                f"--no-verify with TensorRT {trt.text} and {name}: {problem}",
                fix="leave out --no-verify: only the comparison shows whether this engine is right",
            )


def _without(built: Build) -> BudgetError:
    """What is said where the bundle lacks a precision that was asked for."""
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


def _build_engines(
    console: PlainConsole, bundle: Bundle, asked: tuple[Precision, ...], *, verify: bool
) -> None:
    """An engine of every precision that was asked for and is within its budget, else of FP32."""
    have = {artefact.precision for artefact in bundle.manifest.artefacts}
    wanted: list[Precision] = [name for name in asked if name in have] if asked else ["fp32"]
    for precision in wanted:
        built = engines.build_engine(bundle.folder, precision, verify=verify)
        say_engine(console, built)


def _say_table(console: PlainConsole, built: Build) -> None:
    """What the bundle holds: what each precision costs, what it gains here, and what it is for."""
    bundle = built.bundle
    table = Table("precision", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("AbsRel", "size", "speed here", "made for"):
        table.add_column(name, justify="left" if name == "made for" else "right")
    for artefact in bundle.manifest.artefacts:
        files = (artefact.file, *artefact.data)
        size = sum((bundle.folder / name).stat().st_size for name in files) / 1e6
        found = next((one.chosen for one in built.searches if one.precision == artefact.precision), None)
        errors = None if found is None else found.result(ImageErrors)
        table.add_row(
            artefact.precision,
            "–" if errors is None else f"{errors.errors.abs_rel:.2g}",
            f"{size:.1f} MB",
            _speed(artefact),
            _made_for(artefact),
        )
    for report in built.searches:
        if report.chosen is None:
            table.add_row(report.precision, "–", "–", "–", "left out: see below")
    console.print()
    console.print_table(table)


def _speed(artefact: Artefact) -> str:
    """How fast it is beside FP32."""
    verdict = artefact.verdict
    if artefact.precision == "fp32":
        return "1×"
    if verdict is None:
        return "not measured"
    return "does not run" if verdict["speedup"] is None else f"{verdict['speedup']:.2f}×"


def _made_for(artefact: Artefact) -> str:
    recipe = (artefact.calibration or {}).get("recipe", {})
    if recipe.get("target") == "cpu":
        return "CPUs"
    return f"{'any engine, ' if artefact.precision == 'fp32' else ''}{tensorrt_for(artefact.opset)}"


def _say_search(console: PlainConsole, built: Build, opset: int) -> None:
    """What was tried for every lower precision, what it cost, and whether it pays here."""
    for report in built.searches:
        console.print(
            f"\n[bold]{report.precision}[/], checked on {report.images} images ({report.images_from}):"
        )
        for candidate in report.candidates:
            mark = "[green]✓[/]" if candidate.passed else "·"
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
        if artefact.compiled is not None:
            console.print(f"\n{artefact.compiled['sentence']}", markup=False)
