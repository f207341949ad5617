"""The work of glpn-verify: the check, and a line for each thing that was compared."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from rich.markup import escape

from glpn_deploy.atomic import atomic_path
from glpn_deploy.cli.console import PlainConsole, output, print_json, runnable, say_next
from glpn_deploy.errors import InputError
from glpn_deploy.proof.findings import Verification
from glpn_deploy.proof.options import VerifyOptions
from glpn_deploy.proof.parity_picture import draw_worst_image
from glpn_deploy.proof.parity_report import (
    ParityReport,
    describe_flags,
    describe_worst,
    worst_of,
)
from glpn_deploy.proof.polygraphy_check import PolygraphyReport
from glpn_deploy.proof.verification import verify
from glpn_deploy.scale.triton.repository import check_repository, is_repository


def run(
    bundle: Path, options: VerifyOptions, error_map: Path | None, *, verbose: bool, as_json: bool
) -> None:
    """Verifies, and prints what was found.

    Raises:
        GlpnError: The depth is not the reference's, or nothing could be run.
    """
    if error_map is not None and error_map.is_dir():
        raise InputError(f"--error-map {error_map} is a folder", expected="a file to write")
    if is_repository(bundle):
        _check_repository(bundle, options, as_json=as_json)
        return
    console = output(as_json=as_json, verbose=verbose)
    found = verify(bundle, options)
    for report in found.reports if verbose else ():
        _print_report(console, report)
    console.print()
    for opinion in found.polygraphy:
        _print_opinion(console, opinion)
    if error_map is not None:
        _draw(found, error_map, console)
    if as_json:
        print_json(found.to_dict())
    for item in found.not_run:
        console.print(
            f"[bold yellow]not checked here:[/] {escape(f'{item.file} ({item.precision}): {item.reason}')}"
        )
    for engine in found.broken:
        console.print(f"[bold red]broken:[/] {escape(f'{engine.file}: {engine.reason}')}")
    found.require()
    console.print(_conclusion(found), markup=False)
    if not options.reference:
        say_next(console, f"{runnable('glpn-predict')} {bundle} photo.jpg")


def _conclusion(found: Verification) -> str:
    """What the check says as a whole, and its worst case."""
    incomplete = "" if found.complete else " The check is incomplete: see above."
    if not found.reports:
        return f"No depth was compared.{incomplete}"
    report, case = worst_of(found.reports)
    told = "The depth is the reference's"
    if {report.candidate["precision"] for report in found.reports} != {"fp32"}:
        told += f", every artefact{'' if found.complete else ' that was run'} within its budget"
    of = report.candidate.get("file", "model.onnx")
    return f"{told}. Worst: {of} at {describe_worst(report, case)}.{incomplete}"


def _check_repository(folder: Path, options: VerifyOptions, *, as_json: bool) -> None:
    """A Triton model repository's digests; its depth is the bundle's, which is verified where that is."""
    if options != VerifyOptions():
        raise InputError(
            f"{folder} is a model repository, of which only the digests are checked",
            expected="no other option",
            fix="verify the bundle that it was made from",
        )
    console = output(as_json=as_json)
    repository = check_repository(folder)
    if as_json:
        print_json({"repository": str(folder), "files": len(repository.files), **repository.network})
    console.print(f"\nThe repository is as it was made from the bundle {escape(repository.bundle)}.")


def _print_report(console: PlainConsole, report: ParityReport) -> None:
    """What was compared, then a line a case, and for lower precisions the errors by depth range."""

    ran = f"{report.candidate['backend']} on {report.candidate['device']}"
    if "file" in report.candidate:
        run = report.candidate["run"]
        ran = f"{report.candidate['file']}, {ran}" + ("" if run == "native" else f", {run}")
    most = report.limit.max_abs_m
    limit = str(report.limit) if most is None else f"at most {most:.2g} m"
    console.print(f"\n{ran} against {report.reference['backend']}, {limit}:", markup=False)
    for case in report.cases:
        mark = "[green]✓[/]" if case.passed else "[red]✗[/]"
        stats = case.stats
        figures = f"max {stats.max_abs_m:.2e} m   p99 {stats.p99_abs_m:.2e} m   AbsRel {stats.abs_rel:.2e}"
        flags = f"   [red]{describe_flags(case.flags)}[/]" if case.flags else ""
        console.print(f"  {mark} {escape(f'{case.name:<18}')} {figures}{flags}")
    if report.limit.max_abs_rel is None:
        return
    console.print("  by depth         pixels    max [m]    p99 [m]     AbsRel         δ1", markup=False)
    for part in report.by_range:
        if part.stats is None:
            continue
        stats = part.stats
        console.print(
            f"  {part.name + ' m':<10} {part.pixels:>12} {stats.max_abs_m:>10.2e} {stats.p99_abs_m:>10.2e} "
            f"{stats.abs_rel:>10.2e} {stats.delta1:>10.5f}"
        )


def _print_opinion(console: PlainConsole, opinion: PolygraphyReport) -> None:
    agreed = sum(case.agrees for case in opinion.cases)
    mark = "[green]✓[/]" if opinion.agrees else "[red]✗[/]"
    worst = max(opinion.cases, key=lambda case: case.abs_rel)
    console.print(
        f"{mark} Polygraphy {opinion.version} on {opinion.candidate['precision']} against "
        f"{opinion.reference['backend']} {opinion.reference['precision']}: agrees with our result on "
        f"{agreed} of {len(opinion.cases)}; its worst AbsRel {worst.abs_rel:.2e} at {worst.name}"
    )


def _draw(found: Verification, path: Path, console: PlainConsole) -> None:
    """Writes the picture of the worst image."""

    if found.worst_image is None:
        raise InputError("nothing was run, so there is no worst image to draw", fix="leave out --error-map")
    picture = draw_worst_image(*found.worst_image, found.max_depth)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    console.print(f"worst image: {found.worst_image[1].name} -> {path}", markup=False)
