"""Which backend and precision for this image on this machine: latency, and how far the depth moves.

    python examples/compare_backends.py glpn-nyu photo.jpg --precisions fp32,bf16,int8

A quick look, fastest first. Latency is the median of a few whole calls (image in, depth map out); glpn-bench
measures in turns, in processes of their own, with intervals. AbsRel is against the bundle in FP32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from glpn_deploy import DepthEstimator, GlpnError
from glpn_deploy.images.loading import load_image
from glpn_deploy.runtimes.registry import BACKENDS, require_backend


def main() -> None:
    """Tries every backend that is installed with every precision asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", help="bundle folder")
    parser.add_argument("image", help="a photograph of the size that you will use")
    parser.add_argument("--precisions", default="fp32", help="separated by commas")
    parser.add_argument("--runs", type=int, default=5, help="calls that are timed")
    given = parser.parse_args()
    image = load_image(given.image)
    with DepthEstimator.load(given.bundle) as estimator:
        reference = estimator(image).depth
    rows = []
    for backend in [name for name, known in BACKENDS.items() if known.runs in ("onnx", "engine")]:
        for precision in given.precisions.split(","):
            name = f"{backend} {precision}"
            try:
                require_backend(backend)
                with DepthEstimator.load(given.bundle, backend=backend, precision=precision) as estimator:
                    depth = estimator(image).depth  # the first call also warms up
                    if estimator.runtime.precision != precision:
                        raise GlpnError(f"it ran in {estimator.runtime.precision}")
                    seconds = []
                    for _ in range(given.runs):
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
    main()
