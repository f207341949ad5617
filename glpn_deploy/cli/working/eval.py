"""The work of glpn-eval: the evaluation, and its two tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from glpn_deploy.accuracy.baselines import FIT_ROOMS, Baseline, fit_baselines
from glpn_deploy.accuracy.evaluation import EvaluationReport, evaluate
from glpn_deploy.accuracy.options import EvalOptions
from glpn_deploy.cli.app import FAILED
from glpn_deploy.cli.console import output, print_json, runnable, say_next
from glpn_deploy.cli.working.loading import load_estimator
from glpn_deploy.datasets.options import DatasetOptions, Kind
from glpn_deploy.datasets.registry import open_dataset
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.errors import InputError
from glpn_deploy.runtimes.options import LoadOptions


def run(
    source: str,
    path: Path | None,
    dataset: Kind,
    about: DatasetOptions,
    options: EvalOptions,
    load: LoadOptions,
    *,
    baselines: bool,
    as_json: bool,
) -> None:
    """Evaluates a network on a data set, and prints the figures.

    Raises:
        GlpnError: The data set or the network cannot be used.
    """
    if baselines and dataset != "rooms":
        raise InputError(
            f"--baselines with --dataset {dataset}", expected="rooms, whose training split fits them"
        )
    data = open_dataset(dataset, path, about)
    if not options.skip_bad and hasattr(data, "check"):
        data.check()  # a missing file is better known now than after an hour
    console = output(as_json=as_json)
    estimator = load_estimator(source, load)
    guesses: tuple[Baseline, ...] = ()
    with estimator:
        if baselines:
            assert isinstance(data, RenderedRooms)
            guesses = fit_baselines(RenderedRooms("train", FIT_ROOMS, height=data.height, width=data.width))
        named = (
            "test" if dataset in ("nyu", "kitti") and about.file_list is None and _has_lists(path) else None
        )
        report = evaluate(estimator, data, options, split=about.split or named, baselines=guesses)
    values = {"source": source, "path": None if path is None else str(path), **report.to_dict()}
    if as_json:
        print_json(values)
    else:
        _print(console, report)
        say_next(console, f"{runnable('glpn-predict')} {source} photo.jpg")
    if report.bad_samples:
        for sentence in report.bad_samples[:10]:
            console.print(f"left out: {sentence}", style="red", markup=False)
        raise typer.Exit(FAILED)


def _has_lists(path: Path | None) -> bool:
    """Whether a data set has lists by split, of which test is the default; the ``.mat`` has none."""
    return path is not None and path.suffix.lower() != ".mat"


_COLUMNS = (
    ("delta1", "δ1 ↑", "{:.4f}"),
    ("delta2", "δ2 ↑", "{:.4f}"),
    ("delta3", "δ3 ↑", "{:.4f}"),
    ("abs_rel", "AbsRel ↓", "{:.4f}"),
    ("sq_rel", "SqRel ↓, m", "{:.4f}"),
    ("rmse", "RMSE ↓, m", "{:.4f}"),
    ("rmse_log", "RMSElog ↓", "{:.4f}"),
    ("log10", "log10 ↓", "{:.4f}"),
    ("silog_half", "SiLog ↓ (½, GLPN)", "{:.4f}"),
    ("silog_kitti", "SiLog ↓ (KITTI)", "{:.2f}"),
)
_BRIEF = ("delta1", "abs_rel", "rmse")


def _print(console: Console, report: EvaluationReport) -> None:
    """Two tables: all metrics, with the baselines beside them, and a few by depth range."""
    result, data = report.result, report.dataset
    console.print()
    console.print(_title(report), markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("network", justify="right", style="bold")
    for name in report.baselines:
        table.add_column(name.replace("_", " "), justify="right")
    for key, label, form in _COLUMNS:
        others = [form.format(entry["metrics"][key]) for entry in report.baselines.values()]
        table.add_row(label, form.format(report.metrics[key]), *others)
    console.print(table)
    for name, entry in report.baselines.items():
        console.print(f"  {name.replace('_', ' ')}: {entry['description']}", style="dim", markup=False)
    by_range = Table(box=None, pad_edge=False)
    for label in ("depth", "pixels", "δ1 ↑", "AbsRel ↓", "RMSE ↓, m"):
        by_range.add_column(label, justify="right")
    for name, entry in result["by_range"].items():
        if entry["metrics"]:
            figures = [f"{entry['metrics'][key]:.4f}" for key in _BRIEF]
            share = entry["pixels"] / result["pixels"]
            by_range.add_row(f"{name.replace('-', '–')} m", f"{share:.1%}", *figures)
    console.print()
    console.print(by_range)
    if report.steadiness is not None:
        _print_steadiness(console, report.metrics["abs_rel"], report.steadiness)
    if result["skipped"]:
        console.print(f"{result['skipped']} of {data['count']} images had no valid pixel and do not count.")
    if result["invalid_predictions"]:
        console.print(f"{result['invalid_predictions']} predicted pixels were NaN or infinite.", style="red")


def _print_steadiness(console: Console, abs_rel: float, steadiness: dict[str, Any]) -> None:
    """How much the depth flickers from frame to frame, and what --steady makes of it and of the accuracy."""
    table = Table(box=None, pad_edge=False)
    for label in ("a frame", "network", "steadied", "ground truth"):
        table.add_column(label, justify="right" if label != "a frame" else "left")
    for key, label in (("scale_jump", "scale jump ↓"), ("pixel_flicker", "pixel flicker ↓")):
        values = [steadiness[name][key] for name in ("network", "steady", "ground_truth")]
        table.add_row(label, *("–" if value is None else f"{value:.2%}" for value in values))
    table.add_row("AbsRel ↓", f"{abs_rel:.4f}", f"{steadiness['steady']['metrics']['abs_rel']:.4f}", "")
    console.print()
    console.print(table)


def _title(report: EvaluationReport) -> str:
    """What was judged, on what, and by what rules, the options that change figures among them."""
    result, data = report.result, report.dataset
    ran = report.runtime
    where = " ".join(part for part in (data["name"], data["split"]) if part)
    size = f" of {data['height']}x{data['width']}" if data["height"] else ""
    rules = [f"{result['min_depth']:g}–{result['max_depth']:g} m", f"crop {result['crop'] or 'none'}"]
    if report.options.flip:
        rules.append("flip averaging")
    if report.options.median_scaling:
        rules.append(f"MEDIAN SCALING (mean factor {result['median_scale']:.3f})")
    why = f"\n  {ran['why']}" if "why" in ran else ""
    return (
        f"{ran['backend']} {ran['precision']} on {ran['device']}: {where}, {result['images']} images{size}, "
        f"{', '.join(rules)}; {report.images_per_s:.1f} images/s{why}"
    )
