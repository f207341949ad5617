"""glpn-serve: a bundle in, a model repository for Triton Inference Server out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.options import Option
from glpn_deploy.scale.triton.options import ServeOptions


def serve(
    bundle: Annotated[Path, Option("Bundle folder.", argument=True)],
    write: Annotated[
        Path,
        Option(
            "Model repository to write: a new or empty folder, or a repository to replace.",
            metavar="REPOSITORY",
        ),
    ],
    options: ServeOptions,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle as a model repository that Triton Inference Server serves.

    Callers send an image file's bytes to glpn (network in ONNX Runtime or TensorRT, in batches) or to
    glpn_python (one image on one core at a time), or 8-bit pixels to glpn_raw, and get metres. The repository
    lists the digest of every file; glpn-verify REPOSITORY checks them. The server's Python needs
    glpn-deploy installed. Exit status: 0 done, 1 a file could not be written, 2 wrong use or a damaged
    bundle.

    Example: glpn-serve glpn-nyu --write models --instances 4
    """
    from glpn_deploy.cli.working.serve import run

    run(bundle, write, options, as_json=as_json)


main = command(serve)

if __name__ == "__main__":
    main()
