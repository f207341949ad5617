"""Clips of a few small frames, made by PyAV."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.runtimes.rt_null import NullRuntime

MakeClip = Callable[..., Path]


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Nine different frames, 64 px high and 96 px wide."""
    photograph = skimage.data.coffee()
    return [np.ascontiguousarray(photograph[8 * i : 8 * i + 64, 100:196]) for i in range(9)]


@pytest.fixture
def make_clip(pictures: list[np.ndarray], tmp_path: Path) -> MakeClip:
    """Writes a clip: lossless in MKV, H.264 in MP4; timestamps as given, else 30 a second."""

    def make(
        name: str = "clip.mkv",
        images: Iterable[np.ndarray] | None = None,
        pts: Iterable[int] | None = None,
        time_base: Fraction = Fraction(1, 30),
        **options: str,
    ) -> Path:
        import av

        path = tmp_path / name
        images = pictures if images is None else list(images)
        lossless = path.suffix == ".mkv"
        with av.open(str(path), "w", options=options) as container:
            codec = {} if lossless else {"preset": "veryfast", "crf": "10", "bf": "2", "g": "4"}
            stream = container.add_stream("ffv1" if lossless else "libx264", rate=30, options=codec)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "bgr0" if lossless else "yuv420p"
            stream.codec_context.time_base = time_base
            for image, stamp in zip(images, range(len(images)) if pts is None else pts, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = stamp, time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


class BrightnessRuntime(NullRuntime):
    """Every pixel's depth is its brightness: fast, and frames tell themselves apart."""

    def _infer(self, pixel_values: np.ndarray) -> np.ndarray:
        return 0.5 + 4 * pixel_values.mean(axis=1)


@pytest.fixture
def brightness() -> DepthEstimator:
    return DepthEstimator(BrightnessRuntime(), GLPNImageProcessor(), 10.0)


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        if name in os.environ:
            monkeypatch.delenv(name)
