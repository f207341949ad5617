"""A worker is one of several processes: one thread, bound to no core; throughput is many images in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from glpn_deploy import DepthEstimator, GLPNImageProcessor
from glpn_deploy.runtimes.base import Runtime
from glpn_deploy.runtimes.options import RuntimeOptions, one_of_several
from glpn_deploy.runtimes.processor import usable_cores
from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime
from glpn_deploy.runtimes.rt_openvino import OpenVINORuntime

_CHILD = """
import json, os, sys, threading, time
import numpy as np
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.registry import load_runtime
from pathlib import Path


def run(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        runtime.run(np.zeros((1, 3, 256, 256), np.float32))


with load_runtime(sys.argv[1], Path(sys.argv[2]), RuntimeOptions(mode=sys.argv[3], threads=1)) as runtime:
    run(0)
    found, running = set(), threading.Thread(target=run, args=(0.4,))
    running.start()
    while running.is_alive():  # a thread is bound while it computes
        found |= {tuple(sorted(os.sched_getaffinity(int(task)))) for task in os.listdir("/proc/self/task")}
        time.sleep(0.001)
print(json.dumps(sorted(found)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="affinities are Linux's")
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_two_workers_may_use_every_core(backend: str, tiny_onnx: Path) -> None:
    """In latency mode OpenVINO binds the one thread of each to core 0, where they wait for each other."""
    command = [sys.executable, "-c", _CHILD, backend, str(tiny_onnx), "worker"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [child.communicate()[0] for child in children]
    mine = sorted(os.sched_getaffinity(0))
    assert [json.loads(line) for line in lines] == [[mine], [mine]]


def test_worker_mode_is_one_thread_that_does_not_spin(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[Any] = []
    session = onnxruntime.InferenceSession

    def spy(path: Any, about: Any, **rest: Any) -> Any:
        options.append(about)
        return session(path, about, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    OnnxRuntime(tiny_onnx, RuntimeOptions(mode="worker", device="cpu")).close()
    assert options[0].intra_op_num_threads == 1
    assert options[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"
    OnnxRuntime(tiny_onnx, RuntimeOptions(mode="worker", device="cpu", threads=2)).close()
    assert options[1].intra_op_num_threads == 2


def test_openvino_is_told_the_same(tiny_onnx: Path) -> None:
    with OpenVINORuntime(tiny_onnx, RuntimeOptions(mode="worker")) as runtime:
        compiled = runtime._compile((1, 3, 64, 64))._compiled
        assert compiled.get_property("ENABLE_CPU_PINNING") is False
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("kind", [OpenVINORuntime, OnnxRuntime])
def test_throughput_mode_runs_as_many_images_at_once_as_there_are_threads(
    kind: type[Runtime], tiny_onnx: Path
) -> None:
    def runtime(**about: Any) -> Runtime:
        return kind(tiny_onnx, RuntimeOptions(device="cpu", **about))

    images = [np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8) for seed in range(3)]
    with runtime(mode="throughput") as one:
        assert one.at_once == usable_cores()
    with runtime(mode="latency", threads=3) as one:
        assert one.at_once == 1
        expected = [DepthEstimator(one, GLPNImageProcessor(), 10.0)(image).depth for image in images]
    with runtime(mode="throughput", threads=3) as one:
        assert one.at_once == 3
        inside, run_unchecked = threading.Barrier(3), one.run_unchecked

        def together(pixel_values: Any) -> Any:
            inside.wait(60)  # breaks where one waits alone
            return run_unchecked(pixel_values)

        one.run_unchecked = together  # type: ignore[method-assign]
        estimator = DepthEstimator(one, GLPNImageProcessor(), 10.0)
        found = [found.depth_map.depth for found in estimator.stream(images)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "argument", "mode"),
    [
        ("triton_python_backend_utils", "triton_python_backend_stub", "worker"),
        ("ray", "/venv/ray/_private/workers/default_worker.py", "worker"),
        ("ray", "train.py", "latency"),  # a driver
        ("json", "default_worker.py", "latency"),
    ],
)
def test_it_is_chosen_by_itself(
    module: str, argument: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    monkeypatch.setattr(sys, "argv", [argument])
    assert one_of_several() is (mode == "worker")
    assert RuntimeOptions().settled().mode == mode
    assert RuntimeOptions().settled().threads == (1 if mode == "worker" else None)
    assert RuntimeOptions(mode="throughput").settled().mode == "throughput"
