"""The frames of a video file, with the file's own timestamps, upright."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import VideoError
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.options import FrameOptions
from glpn_deploy.video.pyav import av, rgb_of


class ClipFrames(FrameSource):
    """A video file, decoded one frame at a time.

    Raises:
        VideoError: There is no such file, it is damaged, or it holds no video.
    """

    def __init__(self, path: Path, options: FrameOptions) -> None:
        self.name, self._options = str(path), options
        if not path.is_file():
            raise VideoError(f"there is no file {path}", expected="a video")
        try:
            # a playlist may not lead to other files or addresses
            self._container = av.open(str(path), options={"protocol_whitelist": "file"})
        except av.EOFError:
            raise VideoError(f"{path} has no frame", expected="a video") from None
        except av.FFmpegError as error:
            raise VideoError(
                f"{path} cannot be opened as a video ({error.strerror})",
                expected="an MP4, MKV, MOV, AVI or the like that was written to its end",
                fix="a recording that was cut off has no index: repair it, or copy it again from its source",
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{path} holds no video stream", expected="a file with frames in it")
        self._stream = self._container.streams.video[0]
        self._begin = self._stream.start_time or 0
        self._lock, self._closed = threading.Lock(), False
        self.total = self._expected()

    def _expected(self) -> int | None:
        """About how many frames will be given."""
        stream, options = self._stream, self._options
        rate = float(stream.average_rate or 0)
        seconds = self._duration()
        count = stream.frames or (round(seconds * rate) if seconds else 0)
        if not count:
            return None
        seconds = seconds or (count / rate if rate else 0)
        if seconds:
            wanted = max(0.0, min(options.end or math.inf, seconds) - options.start)
            count = round(count * wanted / seconds)
            if options.fps is not None:
                count = min(count, math.ceil(wanted * options.fps))
        return math.ceil(count / options.every)

    def _duration(self) -> float:
        """The video's length as its header says [s]; 0 where it does not."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return float(self._container.duration or 0) / 1e6

    def __iter__(self) -> Generator[Frame, None, None]:
        options, due, given = self._options, -math.inf, 0
        for number, (pts, time_base, frame) in enumerate(self._until_closed()):
            since = float((pts - self._begin) * time_base)
            if options.end is not None and since >= options.end:
                break
            if since < options.start or number % options.every or since < due:
                continue
            if options.fps is not None:
                due = max(due, since) + (1 - 1e-6) / options.fps
            yield Frame(_upright(frame), pts, time_base, given)
            given += 1
        if not given and not self._closed:
            raise VideoError(
                f"{self.name} has no frame"
                + (" between --start and --end" if options.start or options.end is not None else ""),
                expected=f"times within its {self._duration():.3g} s" if self._duration() else "a video",
            )

    def _until_closed(self) -> Iterator[tuple[int, Fraction, av.VideoFrame]]:
        """As `_decoded`; ends when the file is closed, which may happen in another thread."""
        decoded = self._decoded()
        while True:
            with self._lock:
                found = None if self._closed else next(decoded, None)
            if found is None:
                return
            yield found

    def _decoded(self) -> Iterator[tuple[int, Fraction, av.VideoFrame]]:
        """Frames with timestamp and its unit; a damaged packet costs its own frames only."""
        stream, unit = self._stream, self._stream.time_base or Fraction(1, 90000)
        step = round(1 / (stream.average_rate or 30) / unit)
        index, pts, packets, damaged = 0, self._begin - step, 0, 0
        if self._options.start:
            target = int(self._options.start / unit) + self._begin
            self._container.seek(target, stream=stream)  # to the key frame at or before it
        try:
            for packet in self._container.demux(stream):
                packets += packet.size > 0
                try:
                    decoded = packet.decode()
                except av.InvalidDataError:
                    damaged += 1
                    continue
                for frame in decoded:
                    pts = pts + step if frame.pts is None else frame.pts
                    yield pts, frame.time_base or unit, frame
                    index += 1
        except av.FFmpegError as error:
            raise self._cut(index, str(error.strerror)) from None
        missing = self._duration() - float((pts + step - self._begin) * unit)
        short = packets < stream.frames and missing > 2 * step * unit
        if damaged or short:
            why = (
                f"{damaged} damaged packets" if damaged else f"{packets} of {stream.frames} frames are there"
            )
            raise self._cut(index, why)

    def _cut(self, index: int, why: str) -> VideoError:
        return VideoError(
            f"{self.name} is cut or damaged ({why}); {index} frames could be read",
            fix="copy it again from its source",
        )

    def close(self) -> None:
        """Closes the file; waits while another thread decodes a frame."""
        with self._lock:
            self._closed = True
            self._container.close()


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB, turned as the file says; `VideoFrame.rotation` counts degrees counter-clockwise."""
    image = rgb_of(frame)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
