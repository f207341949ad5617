"""Reading live sources: a real RTSP server, one that never answers, cameras, and OpenCV's GStreamer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from glpn_deploy.errors import InputError, MissingDependencyError, VideoError
from glpn_deploy.video import FrameOptions, frames

QUICK = FrameOptions(timeout=0.3)


@pytest.fixture
def rtsp_server(make_clip):
    """Serves clips of the test's folder from 127.0.0.1."""
    pytest.importorskip("av", reason="RTSP is read with PyAV (the extra video)")
    server = pytest.importorskip(
        "aio_rtsp_toolkit.server", reason="the RTSP server comes with the extra test"
    )
    folder = make_clip("clip.mp4").parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(str(folder), host="127.0.0.1", port=port))
        started.set()
        await asyncio.to_thread(stop.wait)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(30)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
    yield f"rtsp://127.0.0.1:{port}"
    stop.set()
    thread.join(30)


def test_rtsp(rtsp_server, pictures):
    with frames(f"{rtsp_server}/clip.mp4?play_count=0", FrameOptions(timeout=10)) as source:
        found = iter(source)
        taken = [next(found) for _ in range(3)]
        found.close()
    for frame in taken:
        nearest = min(np.abs(frame.image.astype(int) - picture).mean() for picture in pictures)
        assert nearest < 4
        assert frame.arrived is not None
    assert taken[0].pts < taken[1].pts < taken[2].pts


def test_rtsp_that_has_no_such_stream(rtsp_server):
    with pytest.raises(VideoError) as error:
        next(iter(frames(f"{rtsp_server}/other.mp4", FrameOptions(timeout=10))))
    assert "cannot be read" in error.value.got


def test_rtsp_that_never_answers():
    pytest.importorskip("av", reason="RTSP is read with PyAV (the extra video)")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://user:secret@127.0.0.1:{silent.getsockname()[1]}/stream"
        with pytest.raises(VideoError) as error:
            next(iter(frames(address, QUICK)))
    assert "did not answer for 0.3 s" in error.value.got
    assert "secret" not in str(error.value)


def test_nobody_there():
    pytest.importorskip("av", reason="RTSP is read with PyAV (the extra video)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(VideoError) as error:
        next(iter(frames(f"rtsp://127.0.0.1:{port}/x", QUICK)))
    assert "Connection refused" in error.value.got


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/video… are Linux's")
def test_there_is_no_such_camera():
    with pytest.raises(VideoError) as error:
        frames("camera:987")
    assert "/dev/video987" in error.value.got


class Capture:
    """cv2.VideoCapture with three frames, as OpenCV gives them: BGR."""

    opened = True
    released = 0

    def __init__(self, source, backend):
        self.source, self.left = source, 3

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return Capture.opened

    def read(self):
        self.left -= 1
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 0], picture[..., 2] = 200, max(self.left, 0)
        return (True, picture) if self.left >= 0 else (False, None)

    def release(self):
        Capture.released += 1


@pytest.fixture
def opencv(monkeypatch):
    """A stand-in for JetPack's cv2, which has GStreamer."""
    registry = SimpleNamespace(getBackends=lambda: [1800])
    module = SimpleNamespace(CAP_GSTREAMER=1800, CAP_ANY=0, VideoCapture=Capture, videoio_registry=registry)
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.setattr(Capture, "opened", True)
    monkeypatch.setattr(Capture, "released", 0)
    return module


PIPELINE = "gstreamer:nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGR ! appsink"


def test_gstreamer_gives_rgb(opencv):
    source = frames(PIPELINE, FrameOptions(reconnects=0))
    found = iter(source)
    frame = next(found)
    assert frame.image.shape == (48, 64, 3)
    assert frame.image[0, 0, 2] == 200
    assert frame.image[0, 0, 0] in (0, 1, 2)
    assert frame.image.flags.c_contiguous
    with pytest.raises(VideoError) as error:
        list(found)
    assert "ended" in error.value.got
    assert Capture.released == 1


def test_gstreamer_that_does_not_open(opencv, monkeypatch):
    monkeypatch.setattr(Capture, "opened", False)
    with pytest.raises(VideoError) as error:
        next(iter(frames(PIPELINE)))
    assert "cannot open" in error.value.got
    assert Capture.released == 1


def test_gstreamer_needs_an_appsink(opencv):
    with pytest.raises(InputError) as error:
        frames("gstreamer:videotestsrc ! autovideosink")
    assert "appsink" in error.value.expected


def test_gstreamer_needs_an_opencv_with_it(opencv, monkeypatch):
    monkeypatch.setattr(opencv.videoio_registry, "getBackends", list)
    with pytest.raises(MissingDependencyError) as error:
        frames(PIPELINE)
    assert "without GStreamer" in error.value.got
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError):
        frames(PIPELINE)
