"""What video is asked to reach, measured.

    python -m glpn_deploy.benchmarks.claims.video --out benchmarks/results

- clip: a whole clip through `predict_video` against the bare network on the same frames, in turns; glpn-nyu's
  architecture with random weights, 640x480 H.264 in, FFV1 and H.264 out. Asked: at most 1.10 times.
- memory: resident memory over 5,000 frames; the null backend, every frame encoded twice.
- live: the age of a 30 fps camera's frame when its depth is there, for a network of 120 ms, and how long it
  had waited for the network. Asked: at most one network time and one frame.
- flicker: scale jumps of the demo network on rendered rooms, plain and steadied, with AbsRel beside them; the
  camera stands (fresh sensor noise every frame), pans at 34 degrees/s, or walks at 0.5 m/s.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.accuracy.frames import SteadinessJudge
from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.cli.app import command
from glpn_deploy.cli.console import print_json
from glpn_deploy.datasets.rendering.layout import random_scene
from glpn_deploy.datasets.rendering.scene import Camera
from glpn_deploy.datasets.rooms import SPLIT_START, RenderedRoom, render_scene
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.options import WORDS, Option
from glpn_deploy.runtimes.rt_null import NullRuntime
from glpn_deploy.video.encoding import ClipWriter
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.options import FrameOptions, VideoOptions
from glpn_deploy.video.predicting import predict_video
from glpn_deploy.video.sources.live_frames import Convert, LiveFrames
from glpn_deploy.video.sources.opening import frames

_FPS = 30
_SAVE = VideoOptions(save=("mm", "color", "jsonl"))


def measure_clip(folder: Path, count: int = 4, turns: int = 12) -> dict[str, Any]:
    """Wall and CPU time a frame [ms], of the network alone and of the whole clip, medians of turns."""
    images = list(_moving(480, 640, count))
    clip = folder / "clip.mp4"
    _write(clip, images)
    model = to_onnx(random_model(NYU, 0), folder / "model.onnx")
    with DepthEstimator.load(model, "openvino", device="cpu") as estimator:
        batches = [estimator.processor.prepare(image)[None] for image in images]
        estimator.runtime.run(batches[0])

        def bare() -> None:
            for batch in batches:
                estimator.runtime.run(batch)

        def whole() -> None:
            predict_video(estimator, frames(clip), folder / "out", _SAVE)

        times: dict[str, list[tuple[float, float]]] = {"network": [], "clip": []}
        for _ in range(turns):
            times["network"].append(_timed(bare, count))
            times["clip"].append(_timed(whole, count))
    found: dict[str, Any] = {"frames": count, "turns": turns, "limit": 1.10}
    for place, name in enumerate(("wall", "cpu")):
        medians = {
            what: statistics.median(pair[place] for pair in measured) for what, measured in times.items()
        }
        found[f"{name}_ms"] = {what: round(value, 1) for what, value in medians.items()}
        ratios = [
            b[place] / a[place] for a, b in zip(times["network"], times["clip"], strict=True)
        ]  # neighbours in time, for the machine changes
        found[f"{name}_ratio"] = round(statistics.median(ratios), 3)
    return found


def measure_memory(folder: Path, count: int = 5000) -> dict[str, Any]:
    """Resident memory [MB] after every tenth of a clip of tiny frames."""
    import psutil

    process, rss = psutil.Process(), list[float]()

    class Watched(FrameSource):
        name, total = "tiny.mp4", count

        def __iter__(self) -> Generator[Frame, None, None]:
            for frame in inner:
                if frame.index % (count // 10) == 0:
                    rss.append(round(process.memory_info().rss / 1e6, 1))
                yield frame

    clip = folder / "tiny.mp4"
    _write(clip, _moving(64, 96, count))
    inner = frames(clip)
    estimator = DepthEstimator(NullRuntime(), GLPNImageProcessor(), 10.0)
    report = predict_video(estimator, Watched(), folder / "out", _SAVE)
    return {"frames": report.frames, "rss_mb": rss, "growth_mb": round(rss[-1] - rss[1], 1)}


def measure_live(folder: Path, seconds: float = 15.0, network_ms: float = 120.0) -> dict[str, Any]:
    """Ages of a camera's frames when their depth is there, against one call of the estimator [ms]."""
    image, waits, arrivals = next(_moving(480, 640, 1)), list[float](), list[float]()

    def taken(arrived: float) -> NDArray[np.uint8]:
        waits.append((time.monotonic() - arrived) * 1e3)
        return image

    def camera() -> Iterator[Convert]:
        begin = time.monotonic()
        for index in range(round(seconds * _FPS)):
            time.sleep(max(0.0, begin + index / _FPS - time.monotonic()))
            arrivals.append(time.monotonic())
            yield functools.partial(taken, arrivals[-1])

    estimator = DepthEstimator(NullRuntime(delay_ms=network_ms), GLPNImageProcessor(), 10.0)
    network = statistics.median(_timed(lambda: estimator(image), 1)[0] for _ in range(9))
    source = LiveFrames("camera", camera, FrameOptions(reconnects=0))
    report = predict_video(estimator, source, folder / "out", VideoOptions(save=("color", "jsonl")))
    lines = map(json.loads, report.files["jsonl"].read_text(encoding="utf-8").splitlines())
    ages = sorted(line["latency_ms"] for line in lines)
    limit = network + 1e3 / _FPS
    gap = 1e3 * max(later - earlier for earlier, later in itertools.pairwise(arrivals))
    return {
        "frames": report.frames,
        "dropped": source.dropped,
        "network_ms": round(network, 1),
        "longest_gap_ms": round(gap, 1),  # between two of the camera's frames: a busy machine is late
        "limit_ms": round(limit, 1),
        "age_ms": {
            "median": round(statistics.median(ages), 1),
            "p95": ages[math.ceil(0.95 * len(ages)) - 1],
            "max": ages[-1],
        },
        "waited_ms": {"median": round(statistics.median(waits), 1), "max": round(max(waits), 1)},
        "within_limit": round(sum(age <= limit for age in ages) / len(ages), 3),
    }


def _pan(camera: Camera, index: int) -> Camera:
    return dataclasses.replace(camera, yaw=camera.yaw + 0.02 * index)


def _walk(camera: Camera, index: int) -> Camera:
    x, y, z = camera.position
    step = 0.5 / _FPS * index
    position = (x + step * math.cos(camera.yaw), y + step * math.sin(camera.yaw), z)
    return dataclasses.replace(camera, position=position)


MOTIONS: dict[str, Callable[[Camera, int], Camera]] = {
    "static": lambda camera, index: camera,
    "panning": _pan,
    "walking": _walk,
}


def measure_flicker(rooms: int = 8, count: int = 24) -> dict[str, Any]:
    """By motion of the camera: flicker of network, truth and steadied depth, and their AbsRel."""
    found: dict[str, Any] = {"rooms": rooms, "frames": count}
    with DepthEstimator.load("demo", "torch", threads=1) as estimator:
        for motion, move in MOTIONS.items():
            judges = []
            plain = DepthMetrics(10.0)
            for seed in range(SPLIT_START["test"], SPLIT_START["test"] + rooms):
                judge = SteadinessJudge(DepthMetrics(10.0))
                for room in _sequence(seed, count, move):
                    depth = estimator(room.image).depth
                    plain.update(depth, room.depth)
                    judge.update(depth, room.depth)
                judges.append(judge.compute())
            found[motion] = {
                f"{name}_{figure}_percent": round(100 * _mean(entry[name][figure] for entry in judges), 2)
                for name in ("network", "ground_truth", "steady")
                for figure in ("scale_jump", "pixel_flicker")
            }
            found[motion]["abs_rel"] = round(plain.compute()["metrics"]["abs_rel"], 4)
            steady = _mean(entry["steady"]["metrics"]["abs_rel"] for entry in judges)
            found[motion]["abs_rel_steady"] = round(steady, 4)
    return found


def _sequence(seed: int, count: int, move: Callable[[Camera, int], Camera]) -> Iterator[RenderedRoom]:
    """Frames of one room as the demo network was trained to see them; every frame has its own noise."""
    scene = random_scene(np.random.Generator(np.random.PCG64(seed)))
    for index in range(count):
        moved = dataclasses.replace(scene, camera=move(scene.camera, index))
        yield render_scene(moved, 96, 128, np.random.default_rng(index))


def _mean(values: Iterator[float]) -> float:
    return statistics.fmean(values)


def _moving(height: int, width: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Frames in which a rendered room drifts to the left."""
    scene = random_scene(np.random.Generator(np.random.PCG64(SPLIT_START["test"])))
    room = render_scene(scene, height, width).image
    for index in range(count):
        yield np.ascontiguousarray(np.roll(room, -3 * index, axis=1))


def _write(path: Path, images: Any) -> None:
    writer = ClipWriter(path)
    for index, image in enumerate(images):
        writer.write(image, index, Fraction(1, _FPS))
    writer.close()


def _timed(call: Callable[[], Any], count: int) -> tuple[float, float]:
    """Wall and CPU time of a call, divided by ``count`` [ms]."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - wall) * 1e3 / count, (time.process_time() - cpu) * 1e3 / count


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "clip": measure_clip,
    "memory": measure_memory,
    "live": measure_live,
    "flicker": lambda folder: measure_flicker(),
}


def video(
    only: Annotated[tuple[str, ...], Option(f"Some of {', '.join(PARTS)}.", reader=WORDS)] = tuple(PARTS),
    out: Annotated[Path | None, Option("Folder whose video.json gets the figures.")] = None,
) -> None:
    """Measure what video is asked to reach; takes six minutes on two cores."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in only:
            found[part] = PARTS[part](Path(folder))
    print_json(found)
    if out is not None:
        path = out / "video.json"
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        with atomic_path(path) as staged:
            staged.write_text(json.dumps(old | found, indent=2) + "\n", encoding="utf-8")


main = command(video)

if __name__ == "__main__":
    main()
