"""How live sources are read: addresses and V4L2 cameras with PyAV, GStreamer and the rest with OpenCV."""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import InputError, MissingDependencyError, VideoError
from glpn_deploy.video.options import FrameOptions
from glpn_deploy.video.sources.live_frames import Convert, Reader

_GSTREAMER = "gstreamer:"


def reader_of(source: str, name: str, options: FrameOptions) -> Reader:
    """The reader of a live source.

    Args:
        source: ``rtsp://…`` or another address, ``camera:0``, ``gstreamer:PIPELINE``.
        name: What messages call it: an address without its password.
        options: ``fps`` is asked of a camera too, ``timeout`` of a connection.
    """
    if source.lower().startswith(_GSTREAMER):
        pipeline = source[len(_GSTREAMER) :]
        if "appsink" not in pipeline:
            raise InputError(
                f"the GStreamer pipeline {pipeline!r}",
                expected="one that ends in: ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true",
            )
        cv2 = _import_cv2("GStreamer pipelines are")
        if cv2.CAP_GSTREAMER not in cv2.videoio_registry.getBackends():
            raise MissingDependencyError(
                "this OpenCV was built without GStreamer", fix="use JetPack's own, pip's have none"
            )
        return functools.partial(_with_opencv, cv2, pipeline, cv2.CAP_GSTREAMER, name)
    if source.lower().startswith("camera:"):
        number = int(source.partition(":")[2])
        if sys.platform != "linux":
            cv2 = _import_cv2("on this system cameras are")
            return functools.partial(_with_opencv, cv2, number, cv2.CAP_ANY, name)
        device = Path(f"/dev/video{number}")
        if not device.exists():
            there = ", ".join(f"camera:{path.name[5:]}" for path in sorted(Path("/dev").glob("video*")))
            raise VideoError(f"there is no {device}", expected=there or "a camera; this machine has none")
        rate = {} if options.fps is None else {"framerate": f"{options.fps:g}"}
        return functools.partial(_with_pyav, str(device), "v4l2", rate, options.timeout, name)
    over_tcp = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
    quick = {**over_tcp, "fflags": "nobuffer"}
    return functools.partial(_with_pyav, source, None, quick, options.timeout, name)


def _with_pyav(
    file: str, format: str | None, options: dict[str, str], timeout: float, name: str
) -> Iterator[Convert]:
    from glpn_deploy.video.pyav import av, rgb_of  # OpenCV's sources do without

    heard = time.monotonic()
    try:
        with av.open(file, format=format, options=options, timeout=(timeout, timeout)) as container:
            if not container.streams.video:
                raise VideoError(f"{name} holds no video stream", expected="frames")
            stream = container.streams.video[0]
            stream.codec_context.flags |= 1 << 19  # AV_CODEC_FLAG_LOW_DELAY
            for packet in container.demux(stream):
                heard = time.monotonic()
                try:
                    decoded = packet.decode()
                except av.InvalidDataError:  # a lost packet costs its own frames
                    continue
                for frame in decoded:
                    yield functools.partial(rgb_of, frame)
    except av.FFmpegError as error:
        late = time.monotonic() - heard >= timeout  # FFmpeg gives reasons of its own when it is interrupted
        why = f"it did not answer for {timeout:g} s" if late else error.strerror
        raise VideoError(
            f"{name} cannot be read ({why})",
            fix="check the address and that it is reachable, or wait longer with --timeout",
        ) from None


def _with_opencv(cv2: Any, source: str | int, backend: int, name: str) -> Iterator[Convert]:
    def rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(frame[..., ::-1])

    capture = cv2.VideoCapture(source, backend)
    try:
        if not capture.isOpened():
            raise VideoError(f"OpenCV cannot open {name}", fix="try the pipeline with gst-launch-1.0")
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield functools.partial(rgb, frame)
    finally:
        capture.release()


def _import_cv2(what: str) -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} read with OpenCV, which is not installed ({error})",
            fix="on a Jetson use JetPack's Python, or a virtual environment with --system-site-packages",
        ) from None
