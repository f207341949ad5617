"""glpn-batch: archives of images, on all processors of a machine or of a Ray cluster."""

from __future__ import annotations

from typing import Annotated

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.options import Option
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.scale.options import BatchOptions


def batch(
    source: Annotated[str, Option("Bundle folder, .onnx file, checkpoint folder or hub id.", argument=True)],
    images: Annotated[
        str,
        Option(
            "Folder, quoted glob ('shots/**/*.jpg'), .txt list, .parquet with paths or bytes, .tar shards "
            "(WebDataset); s3:// and gs:// too.",
            metavar="INPUT",
            argument=True,
        ),
    ],
    out: Annotated[
        str, Option("Folder for the results; s3:// and gs:// too.", metavar="OUTPUT", argument=True)
    ],
    options: BatchOptions,
    load: LoadOptions,
    as_json: JsonOption = False,
) -> None:
    """Predict metric depth for archives of images, on Ray Data (the extra ray).

    Nothing has to be started: workers run on this machine, or with --address on a cluster. The same command
    again goes on where it was stopped. OUTPUT/manifest.parquet has a row an image: size, depth, or why there
    is none. Exit status: 0 done, 1 some images failed, 2 wrong use.

    Example: glpn-batch glpn-nyu ~/photos depth; glpn-batch glpn-nyu 's3://bucket/*.tar' s3://bucket/depth
    --into webdataset --address auto
    """
    from glpn_deploy.cli.working.batch import run

    run(source, images, out, options, load, as_json=as_json)


main = command(batch)

if __name__ == "__main__":
    main()
