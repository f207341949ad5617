"""Depth over HTTP on Ray Serve, for those who run Ray already: an image file in, a PNG of millimetres out.

    pip install "ray[serve]"
    python examples/ray_serve.py glpn-nyu --replicas 2
    curl --data-binary @photo.jpg http://127.0.0.1:8000/ -o photo.depth_mm.png

Every replica is a process with an estimator of one thread. An image that cannot be used gets status 400 and
the reason. Ends with Ctrl-C. The service listens on loopback; Ray's own processes open more ports, which its
documentation says how to guard.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray
from ray import serve
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from glpn_deploy import DepthEstimator, ImageError


@serve.deployment(max_ongoing_requests=2, max_queued_requests=64, ray_actor_options={"num_cpus": 1})
class Depth:
    """One replica."""

    def __init__(self, bundle: str) -> None:
        self.estimator = DepthEstimator.load(bundle, threads=1, mode="worker")

    async def __call__(self, request: Request) -> Response:
        """Depth of the image in the request's body."""
        image = await request.body()
        try:
            depth_map = await run_in_threadpool(self.estimator, image)
        except ImageError as error:
            return Response(str(error), status_code=400)
        return Response(depth_map.to_png(), media_type="image/png")


def main() -> None:
    """Starts Ray on this machine alone, and serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", help="bundle folder, or demo")
    parser.add_argument("--replicas", type=int, default=2, help="processes; one a core")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    # a replica works in another folder; one word is a name, not a path
    bundle = str(Path(given.bundle).resolve()) if Path(given.bundle).exists() else given.bundle
    ray.init(_node_ip_address="127.0.0.1", include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    serve.run(Depth.options(num_replicas=given.replicas).bind(bundle), blocking=True)


if __name__ == "__main__":
    main()
