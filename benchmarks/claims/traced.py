"""The traced graph of glpn-nyu's architecture beside the written one: what it costs and what it gives.

``python -m glpn_deploy.benchmarks.claims.traced`` prints the figures of docs/decisions/traced.md.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from glpn_deploy.benchmarks.claims.random_network import NYU, random_model
from glpn_deploy.exporters.calibration.calibration import calibrate, random_images
from glpn_deploy.exporters.options import OnnxOptions, Route
from glpn_deploy.exporters.to_half import HalfOptions, to_half, unrepresentable
from glpn_deploy.exporters.to_int8 import int8_tensors, to_int8
from glpn_deploy.exporters.to_onnx import to_onnx
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from glpn_deploy.timing.turns import in_turns, median_ratio

_ROUTES: tuple[Route, ...] = ("write", "trace")
_SHAPE = (1, 3, 480, 640)
_ROUNDS = 5


def measure(folder: Path, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Both routes from the same random weights, in FP32, FP16 and INT8 (without a search)."""
    model = random_model(NYU, 0)
    found: dict[str, Any] = {}
    for route in _ROUTES:
        start, cpu = time.perf_counter(), time.process_time()
        full = to_onnx(model, folder / f"{route}.onnx", OnnxOptions(route=route))
        seconds, processor = time.perf_counter() - start, time.process_time() - cpu
        names = frozenset(unrepresentable(full, "fp16"))
        half = to_half(full, folder / f"{route}.fp16.onnx", HalfOptions(fp32_nodes=names))
        ranges = calibrate(full, random_images(2, 96, 128), GLPNImageProcessor(), int8_tensors(full))
        quantized = to_int8(full, folder / f"{route}.int8.onnx", ranges)
        casts = [node.op_type for node in onnx.load(str(half)).graph.node].count("Cast")
        found[route] = {
            "seconds": round(seconds, 1),
            "processor_seconds": round(processor, 1),
            "nodes": read_header(full).nodes,
            "fp16_casts": casts,
            "fp16_bytes": half.stat().st_size / full.stat().st_size,
            "int8_bytes": quantized.stat().st_size / full.stat().st_size,
            "int8_products": [n.op_type for n in onnx.load(str(quantized)).graph.node].count(
                "QuantizeLinear"
            ),
        }
    batch = np.random.default_rng(0).random(_SHAPE, np.float32)
    runtimes = {
        route: OnnxRuntime(folder / f"{route}.onnx", RuntimeOptions(device="cpu")) for route in _ROUTES
    }
    written, traced = (runtimes[route].run(batch) for route in _ROUTES)
    calls: dict[str, Callable[[], object]] = {
        route: functools.partial(runtime.run, batch) for route, runtime in runtimes.items()
    }
    samples = in_turns(calls, rounds, swap=True)
    return {
        **found,
        "largest_difference_m": float(np.abs(written - traced).max()),
        "median_ms": {route: float(np.median(times)) for route, times in samples.items()},
        "speed_of_traced_over_written": median_ratio(samples["write"], samples["trace"]),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(measure(Path(work)), indent=2))
