"""glpn-eval: how accurate is this network on a data set, by the data set's own protocol?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glpn_deploy.accuracy.options import EvalOptions
from glpn_deploy.cli.app import command
from glpn_deploy.cli.derived import note_former
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.datasets.options import DatasetOptions, Kind
from glpn_deploy.options import Option
from glpn_deploy.runtimes.options import LoadOptions


def evaluate(
    source: Annotated[
        str, Option("Bundle folder, .onnx file, checkpoint folder, hub id, or demo.", argument=True)
    ],
    former_path: Annotated[Path | None, typer.Argument(hidden=True)] = None,
    *,
    dataset: Annotated[
        Kind,
        Option(
            "nyu: folder with a file list, or the labelled .mat. kitti: folder with a file list. folder: "
            "images/ and depth/ with files of the same names. frames: such a folder, of one clip. rooms: "
            "rendered from fixed seeds."
        ),
    ] = "rooms",
    data_path: Annotated[
        Path | None, Option("The data set's folder or file; rooms are rendered and need none.")
    ] = None,
    about: DatasetOptions,
    options: EvalOptions,
    baselines: Annotated[
        bool, Option("rooms: also evaluate baselines that do not look at the image.")
    ] = False,
    load: LoadOptions,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a network's depth against ground truth.

    Metrics are taken by image and averaged, as in the papers, in the data set's own depth range and
    crop. Exit status: 0 done, 1 samples were left out, 2 wrong use or a bad data set.

    Example: glpn-eval glpn-nyu --dataset nyu --data-path ~/nyu
    """
    from glpn_deploy.cli.working.eval import run

    if former_path is not None:
        note_former("a path after SOURCE", "--data-path")
    path = data_path or former_path
    run(source, path, dataset, about, options, load, baselines=baselines, as_json=as_json)


main = command(evaluate)

if __name__ == "__main__":
    main()
