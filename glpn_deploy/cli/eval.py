"""glpn-eval: how accurate is this network on a data set, by the data set's own protocol?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glpn_deploy.cli.app import FAILED, command, output, print_json
from glpn_deploy.cli.loading import load_estimator
from glpn_deploy.cli.options import (
    BackendOption,
    CacheOption,
    CompileOption,
    DeviceOption,
    JsonOption,
    MeasureOption,
    OfflineOption,
    PrecisionOption,
    ProviderOption,
    RestOption,
    ThreadsOption,
    parse_size,
)

if TYPE_CHECKING:
    from rich.console import Console

    from glpn_deploy.accuracy.baselines import Baseline
    from glpn_deploy.accuracy.evaluation import EvaluationReport


def evaluate(
    source: Annotated[
        str, typer.Argument(help="Bundle folder, .onnx file, checkpoint folder, hub id, or demo.")
    ],
    path: Annotated[
        Path | None, typer.Argument(help="Where the data set lies; rooms are rendered and lie nowhere.")
    ] = None,
    dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"],
        typer.Option(
            help="nyu: folder with a file list, or the labelled .mat. kitti: folder with a file list. "
            "folder: images/ and depth/ with files of the same names. rooms: rendered from fixed seeds."
        ),
    ] = "rooms",
    split: Annotated[
        str | None, typer.Option(help="train, val (rooms only) or test [default: test].")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Rooms to render [default: 500].")] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Size of the rooms [default: what the demo network is trained on]."),
    ] = None,
    file_list: Annotated[
        Path | None,
        typer.Option(help="nyu and kitti: list of image and depth files; for the .mat, of image numbers."),
    ] = None,
    depth_root: Annotated[
        Path | None, typer.Option(help="kitti: folder that the depth paths start from, if another.")
    ] = None,
    depth_scale: Annotated[
        float | None, typer.Option(help="folder: units per metre of depth PNGs (1000 for millimetres).")
    ] = None,
    kb_crop: Annotated[
        bool | None,
        typer.Option("--kb-crop/--no-kb-crop", help="kitti: cut to the benchmark's 352x1216 [default: yes]."),
    ] = None,
    as_released: Annotated[
        bool | None, typer.Option("--as-released", help="nyu .mat: raw depth and black border.")
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option(help="Judge depth below this [m] [default: the data set's].")
    ] = None,
    crop: Annotated[
        Literal["nyu", "eigen", "garg", "none"] | None,
        typer.Option(help="Judge within this crop [default: the data set's]."),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the prediction of the mirrored image.")
    ] = False,
    median_scaling: Annotated[
        bool,
        typer.Option(
            "--median-scaling",
            help="Scale every prediction to the ground truth's median: judges shape, not metres.",
        ),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="rooms: also judge guesses made without looking at the image."),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images predicted at a time.")] = 4,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out samples that cannot be read; exit status 1 then.")
    ] = False,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    measure: MeasureOption = False,
    cache: CacheOption = None,
    provider: ProviderOption = "auto",
    compile: CompileOption = "no",
    rest: RestOption = "fp32",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge a network's depth against ground truth.

    Metrics are taken by image and averaged, as in the papers, in the data set's own depth range and
    crop. Exit status: 0 done, 1 samples were left out, 2 wrong use or a bad data set.

    Example: glpn-eval glpn-nyu ~/nyu --dataset nyu
    """
    from glpn_deploy.accuracy.baselines import FIT_ROOMS, fit_baselines
    from glpn_deploy.accuracy.evaluation import EvalOptions
    from glpn_deploy.accuracy.evaluation import evaluate as run
    from glpn_deploy.datasets.registry import open_dataset
    from glpn_deploy.errors import InputError

    if baselines and dataset != "rooms":
        raise InputError(
            f"--baselines with --dataset {dataset}", expected="rooms, whose training split fits them"
        )
    data = open_dataset(
        dataset,
        path,
        split=split,
        count=count,
        size=None if size is None else parse_size("--size", size),
        file_list=file_list,
        depth_root=depth_root,
        depth_scale=depth_scale,
        kb_crop=kb_crop,
        as_released=as_released,
    )
    options = EvalOptions(flip, median_scaling, max_depth, crop, batch_size, skip_bad)
    if not skip_bad and hasattr(data, "check"):
        data.check()  # a missing file is better known now than after an hour
    console = output(as_json=as_json)
    estimator = load_estimator(
        source,
        backend,
        precision,
        device,
        threads=threads,
        measure=measure,
        cache=cache,
        provider=provider,
        compile=compile,
        rest=rest,
        offline=offline,
    )
    guesses: tuple[Baseline, ...] = ()
    with estimator:
        if baselines:
            from glpn_deploy.datasets.rooms import RenderedRooms

            assert isinstance(data, RenderedRooms)
            guesses = fit_baselines(RenderedRooms("train", FIT_ROOMS, height=data.height, width=data.width))
        named = "test" if dataset in ("nyu", "kitti") and file_list is None and _has_lists(path) else None
        report = run(estimator, data, options, split=split or named, baselines=guesses)
    values = {"source": source, "path": None if path is None else str(path), **report.to_dict()}
    if as_json:
        print_json(values)
    else:
        _print(console, report)
        console.print(f"\nNext:\n  glpn-predict {source} photo.jpg", markup=False)
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
    from rich.table import Table

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
    if result["skipped"]:
        console.print(f"{result['skipped']} of {data['count']} images had no valid pixel and do not count.")
    if result["invalid_predictions"]:
        console.print(f"{result['invalid_predictions']} predicted pixels were NaN or infinite.", style="red")


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


main = command(evaluate)
