"""The newest frame of a source that does not wait: a grabber, a buffer of one, and connecting again."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import GlpnError, InputError, VideoError
from glpn_deploy.video.frame import Frame, FrameSource
from glpn_deploy.video.options import FrameOptions

Convert: TypeAlias = Callable[[], NDArray[np.uint8]]
"""Makes a frame's (H, W, 3) uint8 RGB; only of those that are taken."""

Reader: TypeAlias = Callable[[], Iterator[Convert]]
"""Connects to the source and gives its frames as they come; what it raises says why it ended."""

_TIME_BASE = Fraction(1, 90000)  # RTP's clock for video
_BACKOFF_S = 0.5  # before the second attempt; twice that before the next, and so on
_MOST_BACKOFF_S = 8.0


class SourceWarning(UserWarning):
    """A live source died or froze and is connected to again."""


class _Grabber:
    """Reads one connection in a thread of its own, and keeps the newest frame."""

    def __init__(self, name: str, read: Reader) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._newest: tuple[Convert, float] | None = None
        self._error: Exception | None = None
        self._stopped = False
        self.came = 0  # frames, dropped ones counted
        threading.Thread(target=self._run, args=(read,), name="glpn-grabber", daemon=True).start()

    def _run(self, read: Reader) -> None:
        error: Exception = VideoError(f"{self._name} ended", expected="a source that goes on")
        try:
            for convert in read():
                with self._changed:
                    if self._stopped:
                        return
                    self._newest = convert, time.monotonic()
                    self.came += 1
                    self._changed.notify_all()
        except Exception as failed:
            error = failed
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def take(self, timeout: float) -> tuple[Convert, float, int] | None:
        """The newest frame, when it came, and how many had come; None after `stop`."""
        with self._changed:
            patience = timeout if self.came else 2 * timeout  # to connect, and for the first frame
            self._changed.wait_for(lambda: self._newest or self._error or self._stopped, patience)
            newest, self._newest = self._newest, None
            if self._stopped:
                return None
            if newest is not None:
                return (*newest, self.came)
            if isinstance(self._error, GlpnError):
                raise self._error
            if self._error is not None:
                raise VideoError(f"{self._name}: {str(self._error) or type(self._error).__name__}")
            raise VideoError(
                f"{self._name} gave no frame for {patience:g} s",
                fix="check that it is on and reachable, or wait longer with --timeout",
            )

    def stop(self) -> None:
        """The thread ends at its next frame; where none ever comes it sleeps on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class LiveFrames(FrameSource):
    """Frames of a camera or stream: always the newest, the others dropped and counted.

    A source that dies, or gives no frame for ``timeout`` seconds, is connected to again, ``reconnects``
    times in a row; one that gave no frame at all is not. Timestamps are times of arrival since the first
    frame, for the source's own clock starts anew with every connection.

    Attributes:
        reconnects: How often it was connected to again.

    Raises:
        InputError: An option is for files only.

    Warns:
        SourceWarning: The source is connected to again.
    """

    live = True
    reconnects = 0

    def __init__(self, name: str, read: Reader, options: FrameOptions) -> None:
        if options.start or options.every != 1:
            raise InputError(
                f"--start or --every for {name}, which is live", expected="--fps, --end, or neither"
            )
        self.name, self._read, self._options = name, read, options
        self._grabber: _Grabber | None = None
        self._closed = threading.Event()

    def __iter__(self) -> Generator[Frame, None, None]:
        begin, last_pts, due = -1.0, -1, 0.0
        try:
            for convert, arrived, index in self._taken():
                begin = arrived if begin < 0 else begin
                if self._options.end is not None and arrived - begin >= self._options.end:
                    return
                last_pts = max(round((arrived - begin) / _TIME_BASE), last_pts + 1)
                yield Frame(convert(), last_pts, _TIME_BASE, index, arrived)
                if self._options.fps is not None:
                    due = max(due, arrived) + 1 / self._options.fps
                    self._closed.wait(max(0.0, due - time.monotonic()))
        finally:
            self.close()

    def _taken(self) -> Generator[tuple[Convert, float, int], None, None]:
        """The newest frame each time, when it came and its number; over all connections."""
        before = given = failures = 0
        while not self._closed.is_set():
            grabber = self._grabber = self._grabber or _Grabber(self.name, self._read)
            try:
                taken = grabber.take(self._options.timeout)
            except GlpnError as error:
                grabber.stop()
                failures += 1
                if not given or failures > self._options.reconnects:
                    raise
                warnings.warn(f"{error} Connecting again ({failures}).", SourceWarning, stacklevel=2)
                before, self._grabber = before + grabber.came, None
                self.reconnects += 1
                self._closed.wait(min(_BACKOFF_S * 2.0 ** (failures - 1), _MOST_BACKOFF_S))
                continue
            if taken is None:
                return
            failures, given = 0, given + 1
            index = before + taken[2] - 1
            self.dropped = index + 1 - given
            yield taken[0], taken[1], index

    def close(self) -> None:
        """Ends the frames, also while one is waited for; may be called from any thread."""
        self._closed.set()
        if self._grabber is not None:
            self._grabber.stop()
