"""Where a CPU's time goes: milliseconds by kind of operator, as OpenVINO and ONNX Runtime tell them."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy.runtimes.base import Precision
from glpn_deploy.runtimes.onnx_file.header import read_header

_RUNS = 5


def openvino_profile(
    path: Path, shape: Sequence[int], threads: int | None, precision: Precision
) -> dict[str, float]:
    """Milliseconds of one run by kind of node, the mean of five after two to warm up.

    Args:
        path: The ``.onnx`` file.
        shape: ``(N, 3, H, W)``, which the network is compiled for.
        threads: None for all cores.
        precision: ``fp32`` or ``bf16``, or ``int8`` for a file with Q/DQ pairs.
    """
    importlib.import_module("glpn_deploy.runtimes.rt_openvino")  # first, for it hushes openvino's telemetry
    import openvino as ov

    core = ov.Core()
    model = core.read_model(str(path))
    model.reshape(list(shape))
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERF_COUNT": True,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", config).create_infer_request()
    pixel_values = np.random.default_rng(0).random(tuple(shape), np.float32)
    for _ in range(2):
        request.infer(pixel_values)
    times: Counter[str] = Counter()
    for _ in range(_RUNS):
        request.infer(pixel_values)
        for node in request.profiling_info:
            times[node.node_type] += node.real_time.total_seconds() * 1e3 / _RUNS
    return _largest_first(times)


def onnxruntime_profile(path: Path, shape: Sequence[int], threads: int | None) -> dict[str, float]:
    """As `openvino_profile`, for ONNX Runtime in the file's own precision."""
    import onnxruntime

    from glpn_deploy.runtimes.rt_onnxruntime import session_settings

    header = read_header(path)
    pixel_values = np.random.default_rng(0).random(tuple(shape), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        options, without = session_settings(header, header.precision or "fp32", on_cpu=True)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        if threads is not None:
            options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=without
        )
        name = header.input
        for _ in range(_RUNS + 2):
            session.run(None, {name: pixel_values})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    nodes = nodes[len(nodes) * 2 // (_RUNS + 2) :]  # without the first two runs
    times: Counter[str] = Counter()
    for event in nodes:
        times[event["args"]["op_name"]] += event["dur"] / 1e3 / _RUNS
    return _largest_first(times)


def _largest_first(times: Counter[str]) -> dict[str, float]:
    return {kind: round(ms, 3) for kind, ms in times.most_common() if ms >= 0.001}
