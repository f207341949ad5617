"""glpn-predict: images, clips and cameras in, depth in metres out."""

from __future__ import annotations

from typing import Annotated

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption, SaveOptions
from glpn_deploy.options import Option
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.video.options import FrameOptions, VideoOptions


def predict(
    source: Annotated[str, Option("Bundle folder, .onnx file, checkpoint folder or hub id.", argument=True)],
    images: Annotated[
        list[str],
        Option(
            "Images, folders of images, or quoted globs ('shots/**/*.jpg'). Or videos: clip.mp4, rtsp://..., "
            "camera:0, gstreamer:PIPELINE, frames:FOLDER (the extra video reads them).",
            argument=True,
        ),
    ],
    saving: SaveOptions,
    frames: FrameOptions,
    video: VideoOptions,
    options: LoadOptions,
    as_json: JsonOption = False,
) -> None:
    """Predict metric depth for images, clips and cameras.

    Every image or video gives files named after it in --out, at its own size. An image that cannot be
    read is reported and skipped; of a video that ends before its time, what was done is kept. Exit status:
    0 done, 1 an image was skipped or a video ended early, 2 wrong use.

    Example: glpn-predict glpn-nyu photo.jpg; glpn-predict glpn-nyu clip.mp4 --save side
    """
    from glpn_deploy.cli.working.predict import run

    run(source, images, saving, frames, video, options, as_json=as_json)


main = command(predict)

if __name__ == "__main__":
    main()
