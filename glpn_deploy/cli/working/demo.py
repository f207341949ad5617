"""The work of the demo: export, prediction, and the pictures."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.cli.console import output, runnable, say_next
from glpn_deploy.datasets.rooms import DEFAULT_EVAL_SIZE, SPLIT_SIZE, RenderedRooms
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.depth.pictures import compose, depth_panel, error_limit, error_panel, image_panel
from glpn_deploy.errors import InputError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.images.loading import load_image, shrink

SHOWN = 4
"""Pictures have at most so many times the longer side that the network was trained at."""


def run(image: Path | None, out: Path, room: int, checkpoint: str) -> None:
    """Exports a checkpoint, predicts, and writes the pictures.

    Raises:
        GlpnError: The image, the room or the checkpoint cannot be used.
    """
    # Bad input is refused before the export.
    photo = None if image is None else shrink(load_image(image), SHOWN * max(DEFAULT_EVAL_SIZE), 32)
    if room >= SPLIT_SIZE:
        raise InputError(f"--room {room}", expected=f"0 to {SPLIT_SIZE - 1}")
    console = output(as_json=False)
    bundle = out / "bundle"
    build_bundle(checkpoint, bundle)
    with DepthEstimator.load(bundle) as estimator, progress.step("predict") as step:
        if photo is not None and image is not None:
            files, lines = _show_photo(estimator, photo, image, out)
        else:
            files, lines = _show_room(estimator, room, out)
        step.finish(files[0].name)
    console.print()
    for line in lines:
        console.print(line, markup=False)
    for file in files:
        console.print(f"  {file}", markup=False)
    say_next(
        console,
        f"{runnable('glpn-predict')} {bundle} {shlex.quote(str(image or files[-1]))}",
        f"{runnable('glpn-eval')} {bundle} --dataset rooms",
        f"{runnable('glpn-verify')} {bundle}",
        "make demo IMAGE=photo.jpg",
    )


def _show_room(estimator: DepthEstimator, room: int, out: Path) -> tuple[list[Path], list[str]]:
    """Predicts a test room and writes its pictures."""
    height, width = (side * SHOWN for side in DEFAULT_EVAL_SIZE)
    rooms = RenderedRooms("test", 1, height=height, width=width, start=room)
    sample = rooms[0]
    depth_map, seen = _predict(estimator, sample.image)
    figures = DepthMetrics(rooms.max_depth).update(depth_map.depth, sample.depth)
    if figures is None:
        raise InputError(f"--room {room}", expected="a room with ground truth", fix="choose another one")
    scores = f"delta1 {figures['delta1']:.3f}, AbsRel {figures['abs_rel']:.3f}, RMSE {figures['rmse']:.2f} m"
    limit = error_limit(depth_map.depth, sample.depth)
    footer = (
        f"The network never saw this room: it is number {room} of the test seeds. Both depth maps are on the "
        f"same fixed scale. Error: prediction minus truth, white within a few cm, colours end at "
        f"±{limit:g} m."
    )
    if bool(np.any(sample.depth <= 0)):
        footer += " Black: no ground truth (nearer than 0.3 m or farther than 10 m)."
    picture = compose(
        [
            image_panel("Image", sample.image, f"rendered; the network sees it at {seen}"),
            depth_panel("Ground truth", sample.depth, estimator.max_depth),
            depth_panel("Prediction", depth_map.depth, estimator.max_depth),
            error_panel("Error", depth_map.depth, sample.depth, limit),
        ],
        heading=f"Test room {room}:  {scores}",
        footer=footer,
    )
    files = _write(depth_map, picture, out, f"room-{room}")
    files.append(out / f"room-{room}.image.png")
    Image.fromarray(sample.image).save(files[-1])
    return files, [f"Test room {room}: {scores.replace('delta1', 'δ1')}"]


def _show_photo(
    estimator: DepthEstimator, photo: NDArray[np.uint8], image: Path, out: Path
) -> tuple[list[Path], list[str]]:
    """Predicts a photograph and writes its pictures."""
    advice = estimator.origin.advice
    depth_map, seen = _predict(estimator, photo)
    picture = compose(
        [
            image_panel("Image", photo, f"the network sees it at {seen}"),
            depth_panel("Prediction", depth_map.depth, estimator.max_depth),
        ],
        footer=advice,
    )
    files = _write(depth_map, picture, out, image.stem)
    line = f"{image}, seen by the network at {seen}, near the size it was trained at."
    return files, [line, advice] if advice else [line]


def _predict(estimator: DepthEstimator, image: NDArray[np.uint8]) -> tuple[DepthMap, str]:
    """Depth at the image's own size, and the size at which the network saw it."""
    height, width = estimator.network_size(*image.shape[:2])
    return estimator(image), f"{width} x {height} px"


def _write(depth_map: DepthMap, picture: NDArray[np.uint8], out: Path, stem: str) -> list[Path]:
    """Writes the composed picture and the depth in its two forms; the picture comes first."""
    together = out / f"{stem}.side_by_side.png"
    with atomic_path(together) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    color = depth_map.save_color(out / f"{stem}.depth_color.png")
    return [together, color, depth_map.save(out / f"{stem}.depth_mm.png")]
