"""glpn-predict: images in, depth maps in metres out."""

from __future__ import annotations

from typing import Annotated

import typer

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption, SaveOptions
from glpn_deploy.runtimes.options import LoadOptions


def predict(
    source: Annotated[str, typer.Argument(help="Bundle folder, .onnx file, checkpoint folder or hub id.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of images, or quoted globs ('shots/**/*.jpg').")
    ],
    saving: SaveOptions,
    options: LoadOptions,
    as_json: JsonOption = False,
) -> None:
    """Predict metric depth for images.

    Every image gives files named after it in --out, at the image's own size. An image that cannot be
    read is reported and skipped. Exit status: 0 done, 1 an image was skipped, 2 wrong use.

    Example: glpn-predict glpn-nyu photo.jpg
    """
    from glpn_deploy.cli.working.predict import run

    run(source, images, saving, options, as_json=as_json)


main = command(predict)

if __name__ == "__main__":
    main()
