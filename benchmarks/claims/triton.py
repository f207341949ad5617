"""What a Triton server costs and gives on two cores: the figures of docs/serving.md.

    python -m glpn_deploy.benchmarks.claims.triton [--rounds 5] [--soak MINUTES]

Serves the demo network from a real tritonserver (fetched as a wheel into --cache) as glpn_python with two
instances of one thread, and measures in turns: the bare network on two threads in this process, 4 callers of
the server; one image by a `DepthEstimator` of one thread, one image by the server. ``--soak`` then calls from
8 callers for so long and looks at the memory of the server and its Python processes every ten seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from glpn_deploy.benchmarks.claims.triton_server import SERVER, fetch, serving, why_not
from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.benchmarks.measuring.load import closed_loop
from glpn_deploy.benchmarks.measuring.server_load import measure_server
from glpn_deploy.benchmarks.server_options import ServerOptions
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.datasets.rooms import RenderedRooms
from glpn_deploy.errors import BackendError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.exporters.build import build_bundle
from glpn_deploy.images.options import ImageOptions
from glpn_deploy.scale.triton.kserve import KserveClient
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.writing import write_repository

CORES, CALLERS, SOAK_CALLERS = 2, 4, 8
_LOOK_S = 10.0


def jpegs() -> list[bytes]:
    """Four rendered rooms, 480x640, as JPEG."""
    files = []
    for sample in RenderedRooms("test", 4):
        stream = io.BytesIO()
        Image.fromarray(sample.image).save(stream, format="JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def throughput(
    bundle: Bundle, url: str, process: int, images: list[bytes], rounds: int, seconds: float
) -> dict[str, Any]:
    """Images a second of the bare network on all cores and of the server, in turns.

    And what an image takes of a processor [ms], which other processes on the machine change less: of the bare
    network, of the server with its Python processes, and of the callers.
    """
    pixels = np.random.default_rng(0).random((1, 3, 480, 640), np.float32)
    found: dict[str, list[float]] = {"bare": [], "server": []}
    taken: dict[str, list[float]] = {"bare": [], "server": [], "callers": []}
    with DepthEstimator.load(bundle.folder, threads=CORES) as estimator:
        estimator.runtime.run(pixels)
        for _ in range(rounds):
            runs = closed_loop(lambda turn: estimator.runtime.run(pixels), 1, seconds)
            found["bare"].append(runs["runs_per_s"])
            taken["bare"].append(runs["cpu_ms"])
            start, callers = _processor_s(process), time.process_time()
            options = ServerOptions(server=url, server_callers=(CALLERS,))
            (load,) = measure_server(options, "glpn_python", images, seconds)
            if load.errors:
                raise BackendError(f"the server refused: {load.errors}")
            found["server"].append(len(load.latencies_ms) / load.seconds)
            taken["server"].append((_processor_s(process) - start) * 1e3 / load.requests)
            taken["callers"].append((time.process_time() - callers) * 1e3 / load.requests)
        backend = estimator.runtime.backend
    ratios = [server / bare for bare, server in zip(found["bare"], found["server"], strict=True)]
    return {
        "backend": backend,
        "images_per_s": found,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "processor_ms": {name: statistics.median(values) for name, values in taken.items()},
    }


def overhead(bundle: Bundle, url: str, images: list[bytes], rounds: int) -> dict[str, float]:
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
        for number in range(-1, 10 * rounds):
            image = images[number % len(images)]
            for name, call in calls.items():
                start = time.perf_counter()
                call(image)
                if number >= 0:
                    samples[name].append((time.perf_counter() - start) * 1e3)
    between = [b - a for a, b in zip(samples["estimator"], samples["server"], strict=True)]
    medians = {f"{name}_ms": statistics.median(values) for name, values in samples.items()}
    return {**medians, "overhead_ms": statistics.median(between)}


def soak(url: str, process: int, images: list[bytes], minutes: float) -> dict[str, Any]:
    """Memory of the server and its Python processes while callers call, every ten seconds [MB]."""
    looked: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            looked.append(sum(_proportional(process)) / 1e6)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        options = ServerOptions(server=url, server_callers=(SOAK_CALLERS,))
        (load,) = measure_server(options, "glpn_python", images, 60 * minutes)
    finally:
        done.set()
        watcher.join()
    quarter = max(1, len(looked) // 4)
    parts = [looked[quarter : 2 * quarter], looked[-quarter:]]  # without the first quarter, which warms up
    growth = [statistics.median(part) for part in parts if part]
    return {**load.to_dict(), "memory_mb": looked, "second_and_last_quarter_mb": growth}


def _tree(process: int) -> list[psutil.Process]:
    server = psutil.Process(process)
    return [server, *server.children(recursive=True)]


def _processor_s(process: int) -> float:
    """Seconds of processors that a process and its children have taken."""
    return sum(sum(one.cpu_times()[:2]) for one in _tree(process))


def _proportional(process: int) -> Iterator[float]:
    """Bytes of a process and its children; what they share is counted once."""
    for one in _tree(process):
        yield one.memory_full_info().pss


def main() -> None:
    """Measures, and prints one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "glpn-deploy-tritonserver")
    given = parser.parse_args()
    if why_not():
        parser.error(f"no tritonserver here: {why_not()}")
    given.cache.parent.mkdir(parents=True, exist_ok=True)
    packages, images = fetch(given.cache, SERVER), jpegs()
    with tempfile.TemporaryDirectory(prefix="glpn-triton-") as folder:
        work = Path(folder)
        bundle = build_bundle("demo", work / "demo")
        images_as_they_are = ImageOptions(input_size="own")  # what the bare network is given, too
        options = ServeOptions(models=("glpn_python",), instances=CORES, images=images_as_they_are)
        write_repository(bundle, work / "models", options)
        with serving(packages, work / "models", work) as (url, _, process):
            found: dict[str, Any] = {"environment": describe_environment()}
            found["throughput"] = throughput(bundle, url, process, images, given.rounds, given.seconds)
            found["overhead"] = overhead(bundle, url, images, given.rounds)
            if given.soak:
                found["soak"] = soak(url, process, images, given.soak)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
