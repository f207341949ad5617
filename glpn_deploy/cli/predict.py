"""glpn-predict: images in, depth maps in metres out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glpn_deploy import progress
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
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from glpn_deploy.depth.depth_map import DepthMap
    from glpn_deploy.depth.point_cloud import Intrinsics

    Camera = Callable[[int, int], Intrinsics]  # width, height [px] to intrinsics

SUFFIXES = {
    "mm": ".depth_mm.png",
    "color": ".depth_color.png",
    "npy": ".depth.npy",
    "tiff": ".depth.tiff",
    "exr": ".depth.exr",
    "ply": ".ply",
}


def predict(
    source: Annotated[str, typer.Argument(help="Bundle folder, .onnx file, checkpoint folder or hub id.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of images, or quoted globs ('shots/**/*.jpg').")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if needed.")] = Path(
        "depth"
    ),
    save: Annotated[
        str,
        typer.Option(
            help="What to save, separated by commas: mm (16-bit millimetre PNG), color (PNG on a fixed metre "
            "scale), npy and tiff (float32 metres), exr (needs the exr extra), ply (point cloud; needs "
            "--fov or --intrinsics)."
        ),
    ] = "mm,color",
    max_m: Annotated[
        float | None, typer.Option(min=0.01, help="Far end of the colour scale [m] [default: the network's].")
    ] = None,
    fov: Annotated[
        float | None, typer.Option(min=1, max=179, help="Horizontal field of view [degrees], for --save ply.")
    ] = None,
    intrinsics: Annotated[
        str, typer.Option(metavar="FX,FY,CX,CY", help="The camera's intrinsics [px], for --save ply.")
    ] = "",
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
    """Predict metric depth for images.

    Every image gives files named after it in --out, at the image's own size. An image that cannot be
    read is reported and skipped. Exit status: 0 done, 1 an image was skipped, 2 wrong use.

    Example: glpn-predict glpn-nyu photo.jpg
    """
    from rich.markup import escape

    from glpn_deploy.errors import ImageError, InputError
    from glpn_deploy.images.files import find_images, unique_stems

    formats = list(dict.fromkeys(name.strip() for name in save.split(",")))
    for name in formats:
        if name not in SUFFIXES:
            raise InputError(f"--save {name!r}", expected=f"some of {', '.join(SUFFIXES)}")
    camera = _camera(fov, intrinsics) if "ply" in formats else None
    paths = find_images(images)
    stems = unique_stems(paths)
    console = output(as_json=as_json)
    results: list[dict[str, Any]] = []
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
    runtime = estimator.runtime
    _say(console, runtime.why)
    out.mkdir(parents=True, exist_ok=True)
    stem_of = dict(zip(map(str, paths), stems, strict=True))
    failed = 0

    def save_next(depth_map: DepthMap, image: NDArray[np.uint8]) -> dict[str, Any]:
        return _save(depth_map, image, out / stem_of[str(depth_map.source)], formats, max_m, camera)

    with (
        estimator,
        contextlib.closing(estimator.stream(paths, save_next)) as saved,
        progress.step("predict", len(paths)) as step,
    ):
        for path, files in zip(paths, saved, strict=True):
            if isinstance(files, ImageError):
                failed += 1
                results.append({"image": str(path), "error": str(files)})
                console.print(f"[red]✗[/] skipped: {escape(str(files))}", markup=True)
            else:
                results.append({"image": str(path), **files})
            step.advance(path.name)
        step.finish(f"{len(paths) - failed} of {len(paths)} images")
        ran = runtime.describe()
    if measure:
        _say(console, runtime.why)
    if as_json:
        about = {"out": str(out), "unit": "metres", "runtime": ran, "images": results, "failed": failed}
        print_json(about)
    for result in results[:10] if not as_json else []:
        for name in result.get("files", {}).values():
            console.print(f"  {name}")
    if len(results) > 10 and not as_json:
        console.print(f"  … and so on in {out}")
    if failed:
        raise typer.Exit(FAILED)


def _say(console: Console, why: str) -> None:
    """Why this backend or precision, where it was not asked for."""
    if why:
        console.print(f"  {why}", style="dim", markup=False)


def _camera(fov: float | None, intrinsics: str) -> Camera:
    """What gives an image its intrinsics, from a field of view or from four numbers."""
    from glpn_deploy.depth.point_cloud import Intrinsics
    from glpn_deploy.errors import InputError

    if fov is not None:
        return lambda width, height: Intrinsics.from_fov(fov, width, height)
    if not intrinsics:
        expected = "the camera's field of view or intrinsics"
        raise InputError("--save ply without a camera", expected=expected, fix="add --fov 60")
    try:
        fx, fy, cx, cy = (float(number) for number in intrinsics.split(","))
    except ValueError:
        raise InputError(f"--intrinsics {intrinsics!r}", expected="four numbers: FX,FY,CX,CY") from None
    fixed = Intrinsics(fx, fy, cx, cy)
    return lambda width, height: fixed


def _save(
    depth_map: DepthMap,
    image: NDArray[np.uint8],
    stem: Path,
    formats: list[str],
    max_m: float | None,
    camera: Camera | None,
) -> dict[str, Any]:
    """Writes what was asked for of one image."""
    height, width = depth_map.depth.shape
    files = {name: stem.with_name(stem.name + SUFFIXES[name]) for name in formats}
    for name, file in files.items():
        if name == "color":
            depth_map.save_color(file, max_m=max_m)
        elif camera is not None and name == "ply":
            depth_map.save_point_cloud(file, camera(width, height), rgb=image)
        else:
            depth_map.save(file)
    low, high = (round(float(value), 3) for value in (depth_map.depth.min(), depth_map.depth.max()))
    return {
        "width": width,
        "height": height,
        "min_m": low,
        "max_m": high,
        "files": {name: str(file) for name, file in files.items()},
    }


main = command(predict)

if __name__ == "__main__":
    main()
