"""The work of glpn-build: plans, engines, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import Sidecar, read_sidecar
from glpn_deploy.cli.console import output, print_json, runnable, say_next
from glpn_deploy.exporters import engines
from glpn_deploy.exporters.engine.engine_options import EngineOptions, WantedEngines
from glpn_deploy.exporters.engines import EnginePlan
from glpn_deploy.gpu.tensorrt_rtx import EXTRA, default_targets, import_tensorrt_rtx

_SHOWN_WARNINGS = 5


def run(
    bundle: Path, wanted: WantedEngines, options: EngineOptions, *, verify: bool, dry_run: bool, as_json: bool
) -> None:
    """Builds an engine of each precision, or says what would be built.

    Raises:
        GlpnError: One cannot be built, or does not give the reference's depth.
    """
    console = output(as_json=as_json)
    # All are looked up before the first is built.
    plans = []
    for name in wanted.precisions or (None,):
        if wanted.rtx:
            precision = name or engines.default_precision(Bundle.open(bundle))
            targets = wanted.targets or default_targets(precision)
            options = dataclasses.replace(options, targets=targets)
        plans.append(engines.plan_engine(bundle, name, options))
    if dry_run:
        for plan in plans:
            _say_plan(console, plan)
        if as_json:
            print_json({"engines": [plan.to_dict() for plan in plans]})
        return
    if wanted.rtx:
        import_tensorrt_rtx()  # says what is missing before anything else is done
    else:
        engines.require_tensorrt()
    built = []
    for plan in plans:
        engine = engines.build_engine(bundle, plan.options.precision, plan.options, verify)
        built.append(say_engine(console, engine))
    if as_json:
        print_json({"engines": built})
    shown = " ".join(f"--precision {','.join(plan.artefact.precision for plan in plans)}".split())
    backend = "tensorrt_rtx" if wanted.rtx else "tensorrt"
    where = f", on a machine with such a card and this package's extra {EXTRA}" if wanted.rtx else ""
    there = str if wanted.rtx else runnable  # another machine has other folders
    say_next(
        console,
        f"{there('glpn-verify')} {bundle}",
        f"{there('glpn-predict')} {bundle} photo.jpg --backend {backend} "
        f"--precision {plans[0].artefact.precision}",
        f"{there('glpn-bench')} {bundle} --backend {backend},onnxruntime {shown}",
        where=where,
    )


def _say_plan(console: Console, plan: EnginePlan) -> None:
    given = plan.options
    console.print(f"{plan.artefact.file} -> engines/{plan.file_name()}", style="bold", markup=False)
    for profile in given.profiles:
        console.print(f"  profile {profile.name}: smallest:best:largest {profile}", markup=False)
    sizes = {"workspace": given.workspace_mb, "tactic memory": given.tactic_dram_mb}
    if given.targets:
        console.print(f"  for compute capabilities {', '.join(given.targets)}", markup=False)
    settings = [f"level {given.level}", *(f"{name} {mb} MB" for name, mb in sizes.items() if mb is not None)]
    if given.timing_cache != "auto":
        settings.append(f"timing cache {given.timing_cache}")
    if given.tactic_sources is not None:
        settings.append(f"tactic sources {', '.join(given.tactic_sources)}")
    settings.append("TF32 allowed" if given.tf32 else "no TF32")
    console.print(f"  {', '.join(settings)}", markup=False)


def say_engine(console: Console, engine: Path) -> dict[str, Any]:
    """Prints what was built, and returns it for JSON."""
    sidecar = read_sidecar(engine)
    layers = ", ".join(f"{count} {name}" for name, count in sidecar.layers.items()) or "not told"
    console.print(f"\n{engine}", style="bold", markup=False)
    made = f"TensorRT {sidecar.tensorrt} for {sidecar.gpu} (sm {sidecar.sm})"
    if sidecar.targets:
        made = f"TensorRT for RTX {sidecar.tensorrt} for compute capabilities {', '.join(sidecar.targets)}"
    console.print(
        f"  {sidecar.bytes / 1e6:.1f} MB, built in {sidecar.build_s:.0f} s with {made}\n  layers: {layers}",
        markup=False,
    )
    if sidecar.device_memory_bytes is not None:
        memory = f"{sidecar.device_memory_bytes / 1e6:.1f} MB to run in, beside the weights"
        console.print(f"  device memory: {memory}", markup=False)
    for warning in sidecar.warnings[:_SHOWN_WARNINGS]:
        console.print(f"  [yellow]TensorRT warns:[/] {escape(warning)}")
    if len(sidecar.warnings) > _SHOWN_WARNINGS:
        console.print(f"  and {len(sidecar.warnings) - _SHOWN_WARNINGS} warnings more, in the sidecar")
    _say_proof(console, sidecar)
    return {"path": str(engine), **json.loads(sidecar.to_json())}


def _say_proof(console: Console, sidecar: Sidecar) -> None:
    if sidecar.parity is None:
        reason = "no GPU here that it runs on" if sidecar.targets else "--no-verify was given"
        console.print(f"  [yellow]not verified[/]: {reason}, and the sidecar says so")
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
