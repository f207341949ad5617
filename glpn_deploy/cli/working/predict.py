"""The work of glpn-predict: depth of one image after the other, and its files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.markup import escape

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.cli.console import PlainConsole, output, say_why
from glpn_deploy.cli.options import ABOUT_FILES, SUFFIXES, Format, SaveOptions
from glpn_deploy.cli.working.loading import conclude, load_to_predict
from glpn_deploy.cli.working.predict_video import are_videos, predict_videos
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.depth.point_cloud import Intrinsics
from glpn_deploy.errors import InputError
from glpn_deploy.images.files import find_images, unique_stems
from glpn_deploy.runtimes.options import LoadOptions
from glpn_deploy.video.options import FrameOptions, VideoOptions

Camera = Callable[[int, int], Intrinsics]  # width, height [px] to intrinsics

_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def run(
    source: str,
    images: list[str],
    saving: SaveOptions,
    frames: FrameOptions,
    video: VideoOptions,
    options: LoadOptions,
    *,
    as_json: bool,
) -> None:
    """Predicts the images, or the videos, and writes what was asked for of each.

    Raises:
        GlpnError: The network or an option cannot be used, or a file cannot be written.
    """
    if are_videos(images, frames, video):
        predict_videos(source, images, saving, frames, video, options, as_json=as_json)
        return
    bundles = [name for name in images if (Path(name) / MANIFEST).is_file()]
    if bundles and Path(source).suffix.lower() in _PICTURES:
        raise InputError(
            f"{source} stands where the bundle is meant",
            expected="glpn-predict BUNDLE IMAGE",
            fix=f"swap the two: glpn-predict {bundles[0]} {source}",
        )
    if saving.out.suffix.lower() in _PICTURES and not saving.out.is_dir():
        raise InputError(
            f"--out {saving.out}",
            expected="a folder, for several files an image",
            fix=f"pass --out {saving.out.with_suffix('')}",
        )
    for name in saving.save:
        if name not in SUFFIXES:
            raise InputError(f"--save {name} for images", expected=f"some of {', '.join(SUFFIXES)}")
    camera = _camera(saving) if {"ply", "preview"} & set(saving.save) else None
    paths = find_images(images)
    stems = dict(zip(paths, unique_stems(paths), strict=True))
    console = output(as_json=as_json)
    if saving.skip_existing:
        there = [path for path in paths if all(f.is_file() for f in _files(stems[path], saving).values())]
        paths = [path for path in paths if path not in set(there)]
        console.print(f"  {len(there)} images have their results in {saving.out} and are left", style="dim")
    results: list[dict[str, Any]] = []
    estimator = load_to_predict(console, source, options)
    saving.out.mkdir(parents=True, exist_ok=True)

    with estimator:
        with (
            contextlib.closing(estimator.stream(paths)) as stream,
            progress.step("predict", len(paths)) as step,
        ):
            for found in stream:
                path = found.item
                if found.error is not None:
                    error = str(found.error)
                    error = error if str(path) in error else f"{path}: {error}"
                    results.append({"image": str(path), "error": error})
                    console.print(f"[red]✗[/] skipped: {escape(error)}", markup=True)
                else:
                    saved = _save(found.depth_map, found.image, _files(stems[path], saving), saving, camera)
                    results.append({"image": str(path), **saved})
                step.advance(path.name)
            failed = sum("error" in result for result in results)
            step.finish(f"{len(paths) - failed} of {len(paths)} images")
        if options.measure:
            say_why(console, estimator.runtime.why)
        if not as_json:
            _say_files(console, results, saving.out)
        conclude(estimator, saving.out, failed, {"images": results}, as_json=as_json)


def _say_files(console: PlainConsole, results: list[dict[str, Any]], out: Path) -> None:
    """The files of the first images, each kind explained once."""
    untold = dict(ABOUT_FILES)
    for result in results[:10]:
        for kind, name in result.get("files", {}).items():
            console.print(f"  {name}", markup=False)
            if about := untold.pop(kind, ""):
                console.print(f"    {about}", style="dim", markup=False)
    if len(results) > 10:
        console.print(f"  … and so on in {out}", markup=False)


def _camera(saving: SaveOptions) -> Camera:
    """What gives an image its intrinsics, from a field of view or from four numbers."""
    fov = saving.fov
    if fov is not None:
        return lambda width, height: Intrinsics.from_fov(fov, width, height)
    if saving.intrinsics is None:
        expected = "the camera's field of view or intrinsics"
        raise InputError("a point cloud without a camera", expected=expected, fix="add --fov 60")
    fixed = Intrinsics(*saving.intrinsics)
    return lambda width, height: fixed


def _files(stem: str, saving: SaveOptions) -> dict[Format, Path]:
    """What is written of an image."""
    return {name: saving.out / (stem + SUFFIXES[name]) for name in saving.save}


def _save(
    depth_map: DepthMap,
    image: NDArray[np.uint8],
    files: dict[Format, Path],
    saving: SaveOptions,
    camera: Camera | None,
) -> dict[str, Any]:
    """Writes what was asked for of one image."""
    height, width = depth_map.depth.shape
    for name, file in files.items():
        if name in ("color", "side", "below"):
            beside = None if name == "color" else image
            below = name == "below"
            depth_map.save_color(file, max_m=saving.max_m, legend=saving.legend, image=beside, below=below)
        elif name in ("gray", "gray16"):
            depth_map.save_gray(file, near=saving.near, bits=8 if name == "gray" else 16, max_m=saving.max_m)
        elif camera is not None and name == "ply":
            depth_map.save_point_cloud(file, camera(width, height), rgb=image)
        elif camera is not None and name == "preview":
            picture = depth_map.draw_point_cloud(camera(width, height), rgb=image)
            with atomic_path(file) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")
        else:
            units = 256 if name == "kitti" else 1000
            depth_map.save(file, units_per_metre=units, compress_level=saving.compress_level)
    low, high = (round(float(value), 3) for value in (depth_map.depth.min(), depth_map.depth.max()))
    return {
        "width": width,
        "height": height,
        "min_m": low,
        "max_m": high,
        "files": {name: str(file) for name, file in files.items()},
    }
