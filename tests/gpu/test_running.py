"""Running engines: CUDA graphs, arrays on the GPU, threads, memory, and what a call costs."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from glpn_deploy.benchmarks.claims.gpu_bundles import DEMO
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.errors import BackendError
from glpn_deploy.estimator import DepthEstimator
from glpn_deploy.gpu.cuda_driver import CU_STREAM_LEGACY
from glpn_deploy.timing.turns import in_turns, median_ratio

SHAPE = (1, 480, 640)
RUNS = 1000
MIB = 1 << 20


class OnGpu:
    """An array on the GPU that offers nothing but ``__cuda_array_interface__``."""

    def __init__(self, cuda, array):
        self._cuda, self.nbytes = cuda, array.nbytes
        self.address = int(cuda.call("cuMemAlloc_v2", array.nbytes))
        cuda.call("cuMemcpyHtoDAsync_v2", self.address, array.ctypes.data, array.nbytes, CU_STREAM_LEGACY)
        cuda.synchronize(CU_STREAM_LEGACY)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
            "stream": None,
        }

    def close(self):
        self._cuda.call("cuMemFree_v2", self.address)


def from_gpu(cuda, array):
    """A copy of an array on the GPU, taken through its interface alone."""
    about = array.__cuda_array_interface__
    result = np.empty(about["shape"], np.dtype(about["typestr"]))
    cuda.call("cuMemcpyDtoHAsync_v2", result.ctypes.data, about["data"][0], result.nbytes, CU_STREAM_LEGACY)
    cuda.synchronize(CU_STREAM_LEGACY)
    return result


def free_bytes(cuda):
    cuda.call("cuCtxSynchronize")
    return cuda.call("cuMemGetInfo_v2")[0]


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def estimator(runtime, bundle, network=DEMO):
    opened = Bundle.open(bundle(network))
    return DepthEstimator(runtime, opened.processor, opened.manifest.config.max_depth)


def test_a_cuda_graph_gives_the_plain_runs_depth(network, precision, load, goldens, record):
    pixels = goldens(network, SHAPE).pixel_values
    runtime, plain = load(network, precision), load(network, precision)
    plain.graphs = False
    expected = plain.run(pixels)
    for _ in range(4):
        depth = runtime.run(pixels)
    assert runtime.describe()["last"]["cuda_graph"] == "replayed"
    assert plain.describe()["last"]["cuda_graph"] == "switched off"
    difference = float(np.abs(depth - expected).max())
    calls = {"graph": lambda: runtime.run(pixels), "plain": lambda: plain.run(pixels)}
    samples = in_turns(calls, rounds=60, warm_up=10, swap=True)
    ratio = median_ratio(samples["plain"], samples["graph"])
    record(
        graph_ms=statistics.median(samples["graph"]),
        plain_ms=statistics.median(samples["plain"]),
        times_as_fast=ratio,
        max_difference_m=difference,
    )
    assert difference <= 1e-6 * float(expected.max())  # the same kernels on the same numbers
    assert ratio >= 0.95  # a graph never costs; what it saves is in the report


def test_a_graph_is_of_its_shape(load, goldens):
    """Shapes in turns, each twice in a row and more: a stale graph would give another shape's depth."""
    runtime, plain = load(), load()
    plain.graphs = False
    shapes = [(1, 480, 640), (2, 256, 256), (1, 640, 480), (8, 480, 640)]
    for shape in [shape for shape in shapes for _ in range(3)] + shapes:
        pixels = goldens(DEMO, shape).pixel_values
        np.testing.assert_allclose(runtime.run(pixels), plain.run(pixels), rtol=1e-6)


def test_frames_and_depth_stay_on_the_gpu(network, load, goldens, cuda, record):
    runtime = load(network)
    pixels = [goldens(network, (3, 480, 640)).pixel_values[i : i + 1].copy() for i in range(3)]
    expected = [runtime.run(image) for image in pixels]
    frames = [OnGpu(cuda, image) for image in pixels]
    for _ in range(3):  # plain, captured, replayed
        for frame, depth in zip(frames, expected, strict=True):
            np.testing.assert_allclose(from_gpu(cuda, runtime.run_device(frame)), depth, rtol=1e-6)
    calls = {"device": lambda: runtime.run_device(frames[0]), "host": lambda: runtime.run(pixels[0])}
    samples = in_turns(calls, rounds=50, warm_up=5)
    record(**{f"{name}_ms": statistics.median(values) for name, values in samples.items()})
    stale, _ = runtime.run_device(frames[0]), runtime.run_device(frames[1])
    with pytest.raises(BackendError):
        stale.__cuda_array_interface__  # noqa: B018 - asking is what is refused
    for frame in frames:
        frame.close()


def test_two_estimators_in_two_threads(load, bundle, picture):
    both = [estimator(load(), bundle), estimator(load(DEMO, "fp32"), bundle)]
    pictures = [picture, np.ascontiguousarray(picture[:, ::-1])]
    expected = [one(image).depth for one, image in zip(both, pictures, strict=True)]
    wrong, errors = [0, 0], []

    def work(index):
        try:
            for _ in range(50):
                depth = both[index](pictures[index]).depth
                wrong[index] += not np.allclose(depth, expected[index], rtol=1e-5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert wrong == [0, 0]


def test_one_estimator_in_two_threads(load, bundle, picture):
    shared = estimator(load(), bundle)
    pictures = [picture, np.ascontiguousarray(picture[:, ::-1]), picture[:256, :256], picture[:256, :320]]
    expected = [shared(image).depth for image in pictures]
    errors = []

    def work(first):
        try:
            for turn in range(60):
                index = (first + turn) % len(pictures)
                np.testing.assert_allclose(shared(pictures[index]).depth, expected[index], rtol=1e-5)
        except (Exception, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_thousand_runs_take_no_memory(load, goldens, cuda, record):
    """Shapes change now and then, so that graphs are captured and dropped on the way."""
    runtime = load()
    shapes = [(1, 480, 640), (2, 256, 256), (1, 640, 480)]
    batches = [goldens(DEMO, shape).pixel_values for shape in shapes]

    def run(times):
        for turn in range(times):
            runtime.run(batches[turn // 10 % len(batches)])

    run(100)
    before = free_bytes(cuda), resident_bytes()
    run(RUNS)
    taken = before[0] - free_bytes(cuda), resident_bytes() - before[1]
    record(runs=RUNS, device_growth_bytes=taken[0], host_growth_bytes=taken[1])
    assert taken[0] <= 2 * MIB
    assert taken[1] <= 16 * MIB


def test_loading_and_closing_give_everything_back(load, goldens, cuda, record):
    pixels = goldens(DEMO, SHAPE).pixel_values

    def cycle():
        runtime = load()
        for _ in range(3):
            runtime.run(pixels)
        used = free_bytes(cuda)
        runtime.close()
        return used

    cycle()  # what CUDA keeps for good is taken
    free, resident = free_bytes(cuda), resident_bytes()
    loaded = [cycle() for _ in range(5)]
    taken = free - min(loaded)
    record(
        loaded_bytes=taken, left_bytes=free - free_bytes(cuda), host_left_bytes=resident_bytes() - resident
    )
    assert taken > MIB
    assert free - free_bytes(cuda) <= 2 * MIB
    closed = load()
    closed.close()
    with pytest.raises(BackendError, match="closed"):
        closed.run(pixels)


def test_the_estimator_adds_at_most_a_millisecond(network, load, bundle, picture, goldens, record):
    """Beyond copying to the GPU, computing there and copying back, by the GPU's own clock."""
    runtime = load(network)
    whole = estimator(runtime, bundle, network)
    pixels = goldens(network, SHAPE).pixel_values
    for _ in range(10):
        whole(picture)
    over, bare, stages = [], [], []
    for _ in range(100):
        begin = time.perf_counter()
        whole(picture)
        taken = (time.perf_counter() - begin) * 1e3
        begin = time.perf_counter()
        _, times = runtime.run_timed(pixels)
        bare.append((time.perf_counter() - begin) * 1e3 - sum(times.values()))
        stages.append(times)
        over.append(taken - sum(times.values()))
    medians = {name: statistics.median(one[name] for one in stages) for name in stages[0]}
    record(
        estimator_overhead_ms=statistics.median(over),
        runtime_overhead_ms=statistics.median(bare),
        **{f"{name}_ms": value for name, value in medians.items()},
        memory=runtime.describe()["device_memory_bytes"],
    )
    assert statistics.median(over) <= 1.0


def test_an_engine_file_is_an_estimator(engine, picture, goldens):
    """The public way in."""
    with DepthEstimator.load(engine(DEMO, "fp32")) as estimator:
        assert estimator.runtime.backend == "tensorrt"
        depth = estimator(picture).depth
    np.testing.assert_allclose(depth, goldens(DEMO, SHAPE).depth[0], atol=1e-3)
