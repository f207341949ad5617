"""Depth of images from a Triton server that serves a glpn-serve repository, by NVIDIA's client.

    pip install "tritonclient[http,grpc]" numpy
    python examples/triton_client.py photo.jpg other.jpg --url 127.0.0.1:8000
    python examples/triton_client.py photo.jpg --grpc --url 127.0.0.1:8001 --model glpn_python

Writes photo.depth.npy beside each image: float32 metres at the image's own size. An image that the server
refuses is reported with the server's reason, and the others go on; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> int:
    """Sends every image and saves what comes back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--url", default="", help="host:port [default: 127.0.0.1:8000, with --grpc :8001]")
    parser.add_argument("--model", default="glpn", help="glpn or glpn_python")
    parser.add_argument("--grpc", action="store_true", help="speak gRPC instead of HTTP")
    given = parser.parse_args()
    client_of = importlib.import_module("tritonclient.grpc" if given.grpc else "tritonclient.http")
    refused = 0
    with client_of.InferenceServerClient(given.url or f"127.0.0.1:{8001 if given.grpc else 8000}") as client:
        for path in given.images:
            try:
                depth = ask(client_of, client, given.model, path.read_bytes())
            except importlib.import_module("tritonclient.utils").InferenceServerException as error:
                print(f"{path}: {error.message()}", file=sys.stderr)
                refused += 1
                continue
            np.save(path.with_suffix(".depth.npy"), depth)
            height, width = depth.shape
            print(f"{path}: {width}x{height}, {depth.min():.2f} to {depth.max():.2f} m")
    return 1 if refused else 0


def ask(client_of: Any, client: Any, model: str, image: bytes) -> np.ndarray:
    """Depth of an image file's bytes, (H, W) float32 [m]."""
    pixels = np.frombuffer(image, np.uint8)
    sent = client_of.InferInput("IMAGE", list(pixels.shape), "UINT8")
    sent.set_data_from_numpy(pixels)
    return client.infer(model, [sent]).as_numpy("DEPTH")


if __name__ == "__main__":
    sys.exit(main())
