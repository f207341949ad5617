"""The page with the newest picture: it streams, on the loopback address only, to its own name only."""

from __future__ import annotations

import http.client
import io

import numpy as np
import pytest
from PIL import Image

from glpn_deploy.video.mjpeg_page import MjpegPage


def get(page: MjpegPage, path: str, host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(page.url.rsplit(":", 1)[1].strip("/")), timeout=30
    )
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def part(stream: http.client.HTTPResponse) -> np.ndarray:
    """The next picture of a multipart stream."""
    length = 0
    while line := stream.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    picture = np.asarray(Image.open(io.BytesIO(stream.read(length))))
    stream.readline()
    return picture


def test_pictures_as_they_come():
    with MjpegPage() as page:
        assert page.url.startswith("http://127.0.0.1:")
        assert b"/stream" in get(page, "/").read()
        assert not page.watched
        stream = get(page, "/stream")
        assert stream.getheader("Content-Type").startswith("multipart/x-mixed-replace")
        with page._changed:
            assert page._changed.wait_for(lambda: page.watched, 30)
        for value in (50, 200):
            page.show(np.full((32, 48, 3), value, np.uint8))
            picture = part(stream)
            assert picture.shape == (32, 48, 3)
            assert abs(int(picture.mean()) - value) <= 1
    assert stream.read() == b""


@pytest.mark.parametrize(
    ("path", "host"), [("/etc/passwd", None), ("/", "evil.example:80"), ("/stream", "evil")]
)
def test_nothing_else(path, host):
    with MjpegPage() as page:
        assert get(page, path, host).status == 404


def test_it_listens_on_the_loopback_address_only():
    with MjpegPage() as page:
        assert page._server.server_address[0] == "127.0.0.1"
