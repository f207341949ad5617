"""The Ray Serve example answers with millimetres, and says why it refuses an image."""

from __future__ import annotations

import http.client
import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glpn_deploy import DepthEstimator

pytest.importorskip("ray.serve", reason='needs pip install "ray[serve]"', exc_type=ImportError)
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_serve.py"


@pytest.mark.slow
def test_it_serves(tiny_bundle, tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, EXAMPLE, tiny_bundle, "--replicas", "1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="PNG")
        end = time.monotonic() + 120
        while (answer := post(port, stream.getvalue()))[0] != 200:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, answer
            time.sleep(0.5)
        with DepthEstimator.load(tiny_bundle) as estimator:
            expected = estimator(picture).quantized(1000)
        found = np.asarray(Image.open(io.BytesIO(answer[1]))).astype(int)
        assert np.abs(found - expected).max() <= 1
        status, reason = post(port, b"no image")
        assert status == 400
        assert b"not an image" in reason
    finally:
        process.terminate()
        process.wait(30)


def post(port: int, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/", body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as error:
        return 0, str(error).encode()
    finally:
        connection.close()
