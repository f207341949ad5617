"""Depth of a whole clip or of a camera: what ``glpn-predict BUNDLE clip.mp4`` does."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy import progress
from glpn_deploy.depth.depth_map import DepthMap
from glpn_deploy.errors import GlpnError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.mjpeg_page import MjpegPage
from glpn_deploy.video.options import VideoOptions
from glpn_deploy.video.outputs import DepthScale, Outputs
from glpn_deploy.video.steadiness import FlickerMeter, ScaleSteadier


@dataclasses.dataclass(frozen=True)
class VideoReport:
    """What was made of a clip.

    Attributes:
        seconds: From the first frame's request to the last file's end [s].
        flicker: `FlickerMeter.compute` of the depth as saved.
        live: For a camera: frames ``dropped``, ``reconnects``, and ``latency_ms`` from a frame's arrival
            to its depth, median and worst; None for files.
        ended: Why it ended before its time; empty where it did not. What was done until then is kept.
    """

    source: str
    frames: int
    seconds: float
    files: dict[str, Path]
    flicker: dict[str, Any]
    live: dict[str, Any] | None
    ended: str

    @property
    def frames_per_s(self) -> float:
        """Frames a second."""
        return self.frames / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = dataclasses.asdict(self)
        values["files"] = {kind: str(path) for kind, path in self.files.items()}
        return values | {"seconds": round(self.seconds, 3), "frames_per_s": round(self.frames_per_s, 2)}


_DEFAULTS = VideoOptions()
INTERRUPTED = "interrupted."


def predict_video(
    estimator: DepthEstimator,
    source: FrameSource,
    out: Path,
    options: VideoOptions = _DEFAULTS,
    page: MjpegPage | None = None,
) -> VideoReport:
    """Predicts the depth of every frame and saves it as it comes.

    For files, decoding, the network and encoding run beside each other; of a camera a frame is taken when
    the network is free, so that it is at most one network time and one frame old. The source is closed.

    Args:
        source: What `glpn_deploy.video.frames` opened.
        out: Folder for the files, made if needed; they are named after the source.
        page: Shows the newest frame and its depth as well.

    Raises:
        GlpnError: The source gave no frame that could be used, or nothing could be written. An error, or
            Ctrl-C, after the first frame is told in the report, and what was done is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    meter, steadier = FlickerMeter(), ScaleSteadier() if options.steady else None
    latencies: list[float] = []
    frames, ended, begin = 0, "", time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(source)
        scale = DepthScale.of(estimator.max_depth, options.max_m)
        outputs = Outputs(out / stem_of(source.name), options.save, scale)
        stream = estimator.stream(source, read_ahead=not source.live)
        step = stack.enter_context(progress.step("predict", source.total))
        try:
            for result in stream:
                frame, depth_map = result.item, result.depth_map
                figures = _timing(frame, source)
                latencies += [figures["latency_ms"]] if source.live else []
                if steadier is not None:
                    depth = steadier(depth_map.depth, frame.time)
                    figures["scale"] = round(steadier.scale, 5)
                    depth_map = DepthMap(depth, depth_map.max_depth)
                meter.update(depth_map.depth)
                outputs.write(frame, depth_map, figures | _range(depth_map))
                if page is not None and page.watched:
                    page.show(outputs.picture("side", frame, depth_map))
                frames += 1
                step.advance(f"{frame.time:.1f} s")
        except GlpnError as error:
            if not frames:
                raise
            ended = str(error)
        except KeyboardInterrupt:
            if not frames:
                raise
            ended = INTERRUPTED
        finally:
            if source.live:  # before the stream, whose thread may be waiting for a frame
                source.close()
            stream.close()
            with contextlib.suppress(GlpnError) if ended else contextlib.nullcontext():
                outputs.close()
        step.finish(f"{frames} frames")
    return VideoReport(
        source.name,
        frames,
        time.perf_counter() - begin,
        {kind: path for kind, path in outputs.files.items() if path.exists()},
        meter.compute(),
        _live(source, latencies) if source.live else None,
        ended,
    )


def stem_of(name: str) -> str:
    """The beginning of the files' names for a source: a clip's stem, an address's host and path."""
    if "://" not in name and Path(name).name:
        return re.sub(r"[^\w.-]+", "-", Path(name).stem)
    address = name.partition("://")[2].partition("?")[0]
    return re.sub(r"[^\w.-]+", "-", address).strip("-")


def _timing(frame: Frame, source: FrameSource) -> dict[str, Any]:
    """Whose depth this is: number, timestamp, and how old a camera's frame is now."""
    figures: dict[str, Any] = {
        "frame": frame.index,
        "pts": frame.pts,
        "time_base": str(frame.time_base),
        "time_s": round(frame.time, 6),
    }
    if frame.arrived is not None:
        figures["latency_ms"] = round((time.monotonic() - frame.arrived) * 1e3, 2)
        figures["dropped"] = source.dropped
    return figures


def _range(depth_map: DepthMap) -> dict[str, Any]:
    """The depth's extremes and median [m]; None where there is no depth."""
    depth = depth_map.depth[depth_map.valid]
    if not depth.size:
        return {"min_m": None, "median_m": None, "max_m": None}
    low, middle, high = float(depth.min()), float(np.median(depth)), float(depth.max())
    return {"min_m": round(low, 4), "median_m": round(middle, 4), "max_m": round(high, 4)}


def _live(source: FrameSource, latencies: list[float]) -> dict[str, Any]:
    median = float(np.median(latencies)) if latencies else math.nan
    return {
        "dropped": source.dropped,
        "reconnects": getattr(source, "reconnects", 0),
        "latency_ms": {"median": round(median, 2), "max": max(latencies, default=math.nan)},
    }
