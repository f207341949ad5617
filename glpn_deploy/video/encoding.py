"""Video files written frame by frame: H.264 in MP4 for eyes, FFV1 in MKV for the depth; and reading that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import GlpnError, VideoError, WriteError
from glpn_deploy.video.pyav import av

UNITS_TAG = "GLPN_UNITS_PER_METRE"
_PICTURE_CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that this FFmpeg has
_RATE = 30  # what players are told of a clip whose frames have timestamps of their own


class ClipWriter:
    """One video file, written beside its place and put there when it is closed, whatever ended it.

    MP4 is fragmented, a fragment a second: what a killed process leaves (``.partial.mp4``) plays as far as
    it goes. MKV does as well. Timestamps are kept exactly in MP4 and rounded to 1 ms in MKV.

    Args:
        path: ``.mp4`` for pictures, (H, W, 3) uint8 RGB; ``.mkv`` for depth, (H, W) uint16, lossless.

    Raises:
        VideoError: FFmpeg has no encoder for it.
        WriteError: The file cannot be created.
    """

    def __init__(self, path: Path, tags: dict[str, str] | None = None) -> None:
        self.path, self._partial = path, path.with_name(f"{path.stem}.partial{path.suffix}")
        self._depth = path.suffix == ".mkv"
        codecs = [name for name in (("ffv1",) if self._depth else _PICTURE_CODECS) if _has(name)]
        if not codecs:
            raise VideoError(
                f"{path} cannot be encoded: this FFmpeg has no {'FFV1' if self._depth else 'H.264'} encoder",
                fix="save a PNG sequence (--save png), or install PyAV from its wheel",
            )
        self._codec = codecs[0]
        self._container: Any
        self._stream: Any
        self._tags, self._container, self._stream = tags or {}, None, None
        self._shape: tuple[int, ...] = ()
        self._last = -1
        with _write_errors(path):
            self._partial.touch()  # FFmpeg opens it at the first frame only

    def write(self, picture: NDArray[Any], pts: int, time_base: Fraction) -> None:
        """Adds a frame at ``pts * time_base`` seconds; one not after the last comes right behind it."""
        with _write_errors(self.path):
            if self._stream is None:
                self._open(picture.shape, time_base)
            if picture.shape != self._shape:
                (height, width), (old_height, old_width) = picture.shape[:2], self._shape[:2]
                raise VideoError(
                    f"the frames changed from {old_width}x{old_height} to {width}x{height} px, and a video "
                    "file has one size",
                    fix="save a PNG sequence (--save png), or start again from there with --start",
                )
            if self._depth:
                frame = av.VideoFrame.from_ndarray(picture, format="gray16le")
            else:
                rows, columns = (side % 2 for side in picture.shape[:2])  # 4:2:0 has even sides
                if rows or columns:
                    picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            self._last = max(round(pts * time_base / self._time_base), self._last + 1)
            frame.pts, frame.time_base = self._last, self._time_base
            self._container.mux(self._stream.encode(frame))

    def _open(self, shape: tuple[int, ...], time_base: Fraction) -> None:
        self._shape, self._time_base = shape, Fraction(1, 1000) if self._depth else time_base
        muxer = {"cluster_time_limit": "1000", "flush_packets": "1"}
        if not self._depth:
            muxer = {
                "movflags": "frag_keyframe+delay_moov+default_base_moof",
                "frag_duration": "1000000",
                "movie_timescale": str(time_base.denominator),  # of the first frame's time: 1 ms otherwise
            }
        self._container = av.open(str(self._partial), "w", options=muxer)
        self._container.metadata.update(self._tags)
        height, width = shape[:2]
        options = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
        if not self._depth:
            height, width = height + height % 2, width + width % 2
            # no frames held back, so that a cut loses little and memory stays flat
            options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
        self._stream = self._container.add_stream(
            self._codec, rate=_RATE, options={} if self._codec == "mpeg4" else options
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "gray16le" if self._depth else "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._time_base
        if not self._depth:
            context.gop_size = 2 * _RATE
            context.colorspace = context.color_range = 1  # AVCOL_SPC_BT709, AVCOL_RANGE_MPEG: limited

    def close(self) -> None:
        """Finishes the file and puts it in its place; without a frame there is none."""
        if self._stream is None:
            self._partial.unlink(missing_ok=True)
            return
        with _write_errors(self.path):
            try:
                self._container.mux(self._stream.encode())
            finally:
                self._container.close()
            self._partial.replace(self.path)


class DepthFrame(NamedTuple):
    """A frame of a depth video.

    Attributes:
        time: Its timestamp [s].
        units: (H, W) uint16 as stored, 0 where there is no depth.
        depth: (H, W) float32 [m].
    """

    time: float
    units: NDArray[np.uint16]
    depth: NDArray[np.float32]


def read_depth_video(path: str | os.PathLike[str]) -> Generator[DepthFrame, None, None]:
    """Yields the frames of a depth video that ``glpn-predict --save mm`` wrote, bit for bit.

    Raises:
        VideoError: It cannot be read, or is no depth video.
    """
    try:
        with av.open(os.fspath(path)) as container:
            units_per_metre = int(container.metadata.get(UNITS_TAG, 0))
            if not container.streams.video or not units_per_metre:
                raise VideoError(f"{path} is no depth video", expected="an MKV with the tag " + UNITS_TAG)
            for frame in container.decode(video=0):
                units: NDArray[np.uint16] = frame.to_ndarray(format="gray16le")
                yield DepthFrame(
                    float(frame.time or 0), units, units.astype(np.float32) / np.float32(units_per_metre)
                )
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} cannot be read ({error.strerror})", expected="a video that glpn-predict wrote"
        ) from None


def _has(codec: str) -> bool:
    try:
        av.Codec(codec, "w")
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except GlpnError:
        raise
    except OSError as error:  # PyAV's of the operating system are as well
        raise WriteError(
            f"{path} could not be written ({error.strerror or error})",
            fix=f"check the free space and your permissions in {path.parent}",
        ) from None
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} could not be encoded ({error.strerror or error})", fix="save a PNG sequence (--save png)"
        ) from None
