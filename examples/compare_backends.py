"""Which backend and precision for this image on this machine: latency, and how far the depth moves.

    python examples/compare_backends.py glpn-nyu photo.jpg --precision fp32,bf16,int8

A quick look, fastest first. Latency is the median of a few whole calls (image in, depth map out); glpn-bench
measures in turns, in processes of their own, with intervals. AbsRel is against the bundle in FP32.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import typer

from glpn_deploy import DepthEstimator, GlpnError
from glpn_deploy.images.loading import load_image
from glpn_deploy.runtimes.registry import BACKENDS, require_backend


def main(bundle: str, photo: str, precision: str = "fp32", runs: int = 5) -> None:
    """Try every backend that is installed with every precision asked for, separated by commas."""
    image = load_image(photo)
    with DepthEstimator.load(bundle) as estimator:
        reference = estimator(image).depth
    rows = []
    for backend in [name for name, known in BACKENDS.items() if known.runs in ("onnx", "engine")]:
        for wanted in precision.split(","):
            name = f"{backend} {wanted}"
            try:
                require_backend(backend)
                with DepthEstimator.load(bundle, backend=backend, precision=wanted) as estimator:
                    depth = estimator(image).depth  # the first call also warms up
                    if estimator.runtime.precision != wanted:
                        raise GlpnError(f"it ran in {estimator.runtime.precision}")
                    seconds = []
                    for _ in range(runs):
                        start = time.perf_counter()
                        estimator(image)
                        seconds.append(time.perf_counter() - start)
            except GlpnError as error:
                print(f"{name:<20} not run: {error}")
                continue
            error = float(np.mean(np.abs(depth - reference) / reference))
            rows.append((statistics.median(seconds), name, error))
    print(f"\n{'backend, precision':<20} {'ms':>8} {'AbsRel':>9}")
    for seconds, name, error in sorted(rows):
        print(f"{name:<20} {1e3 * seconds:8.1f} {error:9.2g}")


if __name__ == "__main__":
    typer.run(main)
