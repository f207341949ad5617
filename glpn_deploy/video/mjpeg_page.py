"""The newest picture as a page in a browser of this machine, or of another through ``ssh -L``."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import sys
import threading
import webbrowser
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BOUNDARY = b"glpn-frame"
_PAGE = (
    b"<!doctype html><title>glpn-predict</title><body style='margin:0;background:#222'><img src='/stream'>"
)
_LOCAL = ("127.0.0.1", "localhost")


class MjpegPage:
    """A web page on the loopback address with the newest picture; as a context manager.

    Where there is a display it is opened in the browser. Other machines cannot reach it, and a page of
    another site cannot read it under a name of its own (the host is checked).

    Args:
        port: The port; 0 takes a free one.
    """

    def __init__(self, port: int = 0, browser: bool = True) -> None:
        self._changed = threading.Condition()
        self._jpeg, self._count, self._watchers, self._closed = b"", 0, 0, False
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._browser = browser and has_display()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        host = request.headers.get("Host", "").rpartition(":")[0]
        if host not in _LOCAL or request.path not in ("/", "/stream"):
            request.send_error(404)
            return
        request.send_response(200)
        if request.path == "/":
            request.send_header("Content-Type", "text/html")
            request.end_headers()
            request.wfile.write(_PAGE)
            return
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
        request.end_headers()
        with contextlib.suppress(OSError):  # the browser has gone
            self._stream(request)

    def _stream(self, request: http.server.BaseHTTPRequestHandler) -> None:
        seen = 0

        def next_picture() -> bool:
            return self._closed or self._count > seen

        with self._changed:
            self._watchers += 1
            self._changed.notify_all()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(next_picture)
                    if self._closed:
                        return
                    jpeg, seen = self._jpeg, self._count
                head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                request.wfile.write(head % (_BOUNDARY, len(jpeg)) + jpeg + b"\r\n")
        finally:
            with self._changed:
                self._watchers -= 1

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return self._watchers > 0

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Puts a picture, (H, W, 3) uint8 RGB, on the page."""
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, format="JPEG", quality=85)
        with self._changed:
            self._jpeg, self._count = jpeg.getvalue(), self._count + 1
            self._changed.notify_all()

    def __enter__(self) -> MjpegPage:
        self._thread.start()
        if self._browser:
            webbrowser.open(self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


def has_display() -> bool:
    """Whether a window could be opened."""
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
