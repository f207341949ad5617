"""glpn-train: a data set in, a checkpoint in HF's format out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from glpn_deploy.cli.app import command, output, print_json
from glpn_deploy.cli.options import DeviceOption, JsonOption, OfflineOption, parse_size

_DATA, _START, _OPTIMISER, _AUGMENT = "Data", "Start", "Optimisation", "Augmentation"


def train(
    dataset: Annotated[
        Literal["nyu", "kitti", "folder", "rooms"],
        typer.Argument(
            help="nyu (NYU Depth V2), kitti (Eigen's split), folder (images/ and depth/), rooms (rendered)."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder for last/ (the state), best/ and final/ (checkpoints), log.csv.")
    ],
    path: Annotated[Path | None, typer.Option(help="Where the data set lies.", rich_help_panel=_DATA)] = None,
    train_list: Annotated[
        Path | None, typer.Option(help="File list of the training samples.", rich_help_panel=_DATA)
    ] = None,
    val_list: Annotated[
        Path | None, typer.Option(help="File list of the validation samples.", rich_help_panel=_DATA)
    ] = None,
    val_path: Annotated[
        Path | None,
        typer.Option(
            help="folder: another such folder to validate on [default: every 20th pair is held out].",
            rich_help_panel=_DATA,
        ),
    ] = None,
    depth_root: Annotated[
        Path | None, typer.Option(help="kitti: where the depth paths start from.", rich_help_panel=_DATA)
    ] = None,
    depth_scale: Annotated[
        float | None,
        typer.Option(
            help="folder: units per metre of depth PNGs (1000: millimetres).", rich_help_panel=_DATA
        ),
    ] = None,
    rooms: Annotated[
        int, typer.Option(min=1, help="rooms: how many to train on.", rich_help_panel=_DATA)
    ] = 20_000,
    val_rooms: Annotated[
        int, typer.Option(min=1, help="rooms: how many to validate on.", rich_help_panel=_DATA)
    ] = 200,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="rooms: height and width [px].", rich_help_panel=_DATA)
    ] = "192x256",
    shrink: Annotated[
        int,
        typer.Option(
            min=1,
            help="rooms, folder: train at this fraction of the images' sides (2: half), for a cheap first "
            "pass.",
            rich_help_panel=_DATA,
        ),
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="rooms: keep them here (0.25 MB each at 192x256) instead of rendering in every epoch.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="scratch; a GLPN checkpoint; or a MiT/SegFormer encoder in HF format (nvidia/mit-b4), "
            "which is what the paper starts from.",
            rich_help_panel=_START,
        ),
    ] = "scratch",
    config: Annotated[
        str,
        typer.Option(help="scratch: demo, mit-b0 ... mit-b5, or a config.json.", rich_help_panel=_START),
    ] = "mit-b4",
    max_depth: Annotated[
        float | None,
        typer.Option(
            help="Depth [m] at which the network saturates [default: the data set's; kitti 80, else 10].",
            rich_help_panel=_START,
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision.", rich_help_panel=_START)] = None,
    epochs: Annotated[int, typer.Option(min=1, rich_help_panel=_OPTIMISER)] = 25,
    batch: Annotated[int, typer.Option(min=2, rich_help_panel=_OPTIMISER)] = 12,
    lr: Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=_OPTIMISER)] = 1e-4,
    schedule: Annotated[
        Literal["paper", "cosine"],
        typer.Option(
            help="paper: from 0.3 of --lr up to it and back, by the power 0.9; cosine: a short rise, then "
            "down to 0, which suits training from scratch.",
            rich_help_panel=_OPTIMISER,
        ),
    ] = "paper",
    optimizer: Annotated[Literal["adam", "adamw"], typer.Option(rich_help_panel=_OPTIMISER)] = "adam",
    loss: Annotated[
        Literal["silog", "log-l1"],
        typer.Option(
            help="silog: the paper's; log-l1: mean |ln depth - ln truth|, which outliers sway less.",
            rich_help_panel=_OPTIMISER,
        ),
    ] = "silog",
    weight_decay: Annotated[float, typer.Option(min=0.0, rich_help_panel=_OPTIMISER)] = 0.0,
    clip: Annotated[
        float | None, typer.Option(help="Largest norm of the gradient.", rich_help_panel=_OPTIMISER)
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Validate and write a moving average of the weights with this decay (0.999).",
            rich_help_panel=_OPTIMISER,
        ),
    ] = None,
    drop_path: Annotated[
        float | None, typer.Option(help="Stochastic depth.", rich_help_panel=_OPTIMISER)
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(
            help="auto: bf16 (or fp16) on a GPU, fp32 on a CPU; bf16 pays on a CPU that computes in it.",
            rich_help_panel=_OPTIMISER,
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, rich_help_panel=_OPTIMISER)] = 0,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Height and width [px] of the random crop [default: nyu 448x576, kitti 352x704, else the "
            "first image's size].",
            rich_help_panel=_AUGMENT,
        ),
    ] = None,
    cutdepth: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of samples with Vertical CutDepth.", rich_help_panel=_AUGMENT
        ),
    ] = 0.25,
    cutdepth_scaling: Annotated[
        Literal["unit", "as-released"],
        typer.Option(
            help="unit pastes depth from black (0 m) to white (max depth); as-released pastes millimetres "
            "that wrap around at 256, as the authors' code does.",
            rich_help_panel=_AUGMENT,
        ),
    ] = "unit",
    flip: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of mirrored samples.", rich_help_panel=_AUGMENT)
    ] = 0.5,
    colour: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of samples that each of brightness/contrast, gamma and hue changes.",
            rich_help_panel=_AUGMENT,
        ),
    ] = 0.5,
    device: DeviceOption = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read samples; 0 reads in this one.")
    ] = 2,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads within one operator [default: torch's].")
    ] = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between states; a kill loses at most these.")
    ] = 500,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew where OUT holds a state.")] = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train GLPN by the paper's recipe, or by your own.

    Defaults are the paper's: Adam, batch 12, 25 epochs, learning rate 3e-5 to 1e-4 and back, SiLog loss,
    Vertical CutDepth on a quarter of the samples. OUT/best is the checkpoint of the epoch with the
    lowest AbsRel, OUT/final the last one; both are in Hugging Face's format.

    Stopped or killed, a run goes on by itself when the same command is given again, at the same loss
    curve. Exit status: 0 done, 1 stopped or diverged, 2 wrong use.

    The paper's run: glpn-train nyu runs/nyu --path NYU --start nvidia/mit-b4

    Without any data: glpn-train rooms runs/rooms --config demo --cache rooms-cache --lr 1e-3
    """
    from glpn_deploy.errors import MissingDependencyError
    from glpn_deploy.runtimes.registry import require_backend

    require_backend("torch")
    from glpn_deploy.training.options import TrainOptions

    options = TrainOptions(
        out=out,
        dataset=dataset,
        path=path,
        train_list=train_list,
        val_list=val_list,
        val_path=val_path,
        depth_root=depth_root,
        depth_scale=depth_scale,
        rooms=rooms,
        val_rooms=val_rooms,
        size=parse_size("--size", size),
        shrink=shrink,
        cache=cache,
        start=start,
        config=config,
        max_depth=max_depth,
        revision=revision,
        offline=offline,
        epochs=epochs,
        batch=batch,
        crop=None if crop is None else parse_size("--crop", crop),
        lr=lr,
        schedule=schedule,
        optimizer=optimizer,
        loss=loss,
        weight_decay=weight_decay,
        clip=clip,
        ema=ema,
        drop_path=drop_path,
        cutdepth=cutdepth,
        cutdepth_scaling=cutdepth_scaling,
        flip=flip,
        colour=colour,
        precision=precision,
        device=device,
        seed=seed,
        workers=workers,
        threads=threads,
        save_every=save_every,
        fresh=fresh,
    )
    try:
        from glpn_deploy.training.trainer import train as run
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs {error.name}, which is not installed",
            fix='pip install "glpn-deploy[train]"',
        ) from error
    console = output(as_json=as_json)
    result = run(options)
    if as_json:
        print_json(
            {
                "best": str(result.best),
                "final": str(result.final),
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
                "parameters": result.parameters,
                "metrics": result.metrics,
            }
        )
    where = "" if path is None else f" {path}"
    console.print(
        f"\nNext:\n  glpn-eval {result.best}{where} --dataset {dataset}\n  glpn-export {result.best} BUNDLE",
        markup=False,
    )


main = command(train)
