"""What ``--io uint8`` saves: bytes and the host's time before a run, and what it costs on CPUs.

A rendered room of 480x640, which enters the network as it is, and one of 500x700, which is resized first; the
demo network in ONNX Runtime and OpenVINO, from the image in memory to raw depth, in turns in one process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.datasets.rooms import render_room
from glpn_deploy.exporters.options import OnnxOptions
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.runtimes.options import BackendName, RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from glpn_deploy.timing.order_statistics import median_interval
from glpn_deploy.timing.turns import in_turns

SIZES = {"480x640": (480, 640), "500x700": (500, 700)}
BACKENDS: tuple[BackendName, ...] = ("onnxruntime", "openvino")
HOST_ROUNDS, ROUNDS, LIMIT_S, FEWEST = 200, 40, 60, 7


def host(size: tuple[int, int]) -> dict[str, Any]:
    """Shortest time [ms] and bytes of the batch that a runtime is given, by type."""
    image, processor = render_room(0, *size).image, GLPNImageProcessor()
    makers: dict[str, Callable[[], NDArray[Any]]] = {
        "float32": lambda: processor.prepare(image)[None],
        "float16": lambda: processor.prepare(image)[None].astype(np.float16),
        "uint8": lambda: processor.prepare_bytes(image)[None],
    }
    samples = in_turns(makers, HOST_ROUNDS, warm_up=5, swap=True)
    return {name: {"ms": min(samples[name]), "bytes": make().nbytes} for name, make in makers.items()}


def network(backend: BackendName, floats: Path, images: Path) -> dict[str, Any]:
    """The same network with both inputs: how many times as fast bytes are, and how far the depth moves."""
    image, processor = render_room(0, *SIZES["480x640"]).image, GLPNImageProcessor()
    options = RuntimeOptions(device="cpu", precision="fp32")
    with load_runtime(backend, floats, options) as one, load_runtime(backend, images, options) as other:
        calls = {
            "float32": lambda: one.run(processor.prepare(image)[None]),
            "uint8": lambda: other.run(processor.prepare_bytes(image)[None]),
        }
        difference = float(np.abs(calls["float32"]() - calls["uint8"]()).max())
        samples = in_turns(calls, ROUNDS, warm_up=2, swap=True, limit_s=LIMIT_S, fewest=FEWEST)
    ratios = [a / b for a, b in zip(samples["float32"], samples["uint8"], strict=True)]
    low, high = median_interval(ratios)
    return {
        "ms": {name: statistics.median(times) for name, times in samples.items()},
        "times_as_fast": {"value": statistics.median(ratios), "low": low, "high": high},
        "max_difference_m": difference,
    }


def measure(options: FigureOptions) -> dict[str, Any]:
    """The host's part at both sizes, and the demo network on both CPU backends."""
    model = GLPNForDepthEstimation.from_pretrained("demo")
    floats = to_onnx(model, options.folder / "floats.onnx")
    images = to_onnx(model, options.folder / "images.onnx", OnnxOptions(io="uint8"))
    with progress.step("host"):
        before = {name: host(size) for name, size in SIZES.items()}
    networks = {}
    for backend in BACKENDS:
        with progress.step(backend):
            networks[backend] = network(backend, floats, images)
    return {"host": before, "networks": networks}
