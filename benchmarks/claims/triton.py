"""What a Triton server costs and gives on two cores.

Serves the demo network from a real tritonserver (fetched as a wheel into the user's cache folder) as
glpn_python with two instances of one thread, and measures in turns: the bare network on two threads in this
process, 4 callers of the server; one image by a `DepthEstimator` of one thread, one image by the server.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.benchmarks.claims.triton_server import SERVER, fetch, serving, why_not
from glpn_deploy.benchmarks.measuring.load import closed_loop
from glpn_deploy.benchmarks.measuring.server_load import measure_server
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.errors import BackendError, UnavailableError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.scale.triton.kserve import KserveClient
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.writing import write_repository

CORES, CALLERS = 2, 4
ROUNDS, TURN_S = 5, 8.0
CACHE = Path.home() / ".cache" / "glpn-deploy-tritonserver"


def jpegs() -> list[bytes]:
    """Four rendered rooms, 480x640, as JPEG."""
    files = []
    for sample in RenderedRooms("test", 4):
        stream = io.BytesIO()
        Image.fromarray(sample.image).save(stream, format="JPEG", quality=90)
        files.append(stream.getvalue())
    return files


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[Bundle, str, int]]:
    """The demo network on a server of its own: the bundle, the server's URL and its process.

    Raises:
        UnavailableError: There is no tritonserver for this machine.
    """
    if reason := why_not():
        raise UnavailableError(f"there is no tritonserver for this machine: {reason}")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    bundle = build_bundle("demo", folder / "demo")
    as_they_are = ImageOptions(input_size="own")  # what the bare network is given, too
    options = ServeOptions(models=("glpn_python",), instances=CORES, images=as_they_are)
    write_repository(bundle, folder / "models", options)
    with serving(fetch(CACHE, SERVER), folder / "models", folder) as (url, _, process):
        yield bundle, url, process


def throughput(bundle: Bundle, url: str, process: int, images: list[bytes]) -> dict[str, Any]:
    """Images a second of the bare network on all cores and of the server, in turns.

    And what an image takes of a processor [ms], which other processes on the machine change less: of the bare
    network, of the server with its Python processes, and of the callers.
    """
    pixels = np.random.default_rng(0).random((1, 3, 480, 640), np.float32)
    found: dict[str, list[float]] = {"bare": [], "server": []}
    taken: dict[str, list[float]] = {"bare": [], "server": [], "callers": []}
    with DepthEstimator.load(bundle.folder, threads=CORES) as estimator:
        estimator.runtime.run(pixels)
        for _ in range(ROUNDS):
            runs = closed_loop(lambda turn: estimator.runtime.run(pixels), 1, TURN_S)
            found["bare"].append(runs["runs_per_s"])
            taken["bare"].append(runs["cpu_ms"])
            start, callers = _processor_s(process), time.process_time()
            options = ServerOptions(server=url, server_callers=(CALLERS,))
            (load,) = measure_server(options, "glpn_python", images, TURN_S)
            if load.errors:
                raise BackendError(f"the server refused: {load.errors}")
            found["server"].append(len(load.latencies_ms) / load.seconds)
            taken["server"].append((_processor_s(process) - start) * 1e3 / load.requests)
            taken["callers"].append((time.process_time() - callers) * 1e3 / load.requests)
        backend = estimator.runtime.backend
    return {
        "backend": backend,
        "images_per_s": found,
        "processor_ms": {name: statistics.median(values) for name, values in taken.items()},
    }


def overhead(bundle: Bundle, url: str, images: list[bytes]) -> dict[str, float]:
    """Milliseconds of one image by an estimator of one thread and by the server, and what lies between."""
    samples: dict[str, list[float]] = {"estimator": [], "server": []}
    with (
        DepthEstimator.load(bundle.folder, threads=1, input_size="own") as estimator,
        KserveClient(url) as client,
    ):
        calls: dict[str, Callable[[bytes], object]] = {
            "estimator": estimator,
            "server": lambda image: client.depth("glpn_python", image),
        }
        for number in range(-1, 10 * ROUNDS):
            image = images[number % len(images)]
            for name, call in calls.items():
                start = time.perf_counter()
                call(image)
                if number >= 0:
                    samples[name].append((time.perf_counter() - start) * 1e3)
    between = [b - a for a, b in zip(samples["estimator"], samples["server"], strict=True)]
    medians = {f"{name}_ms": statistics.median(values) for name, values in samples.items()}
    return {**medians, "overhead_ms": statistics.median(between)}


def tree(process: int) -> list[psutil.Process]:
    """A process and those below it."""
    server = psutil.Process(process)
    return [server, *server.children(recursive=True)]


def _processor_s(process: int) -> float:
    """Seconds of processors that a process and its children have taken."""
    return sum(sum(one.cpu_times()[:2]) for one in tree(process))


def measure(options: FigureOptions) -> dict[str, Any]:
    """Both, on one server."""
    images = jpegs()
    with served(options.folder) as (bundle, url, process):
        return {
            "throughput": throughput(bundle, url, process, images),
            "overhead": overhead(bundle, url, images),
        }
