"""CUDA's calls, memory and graphs, on a simulated GPU that notices what a real one would only punish."""

from __future__ import annotations

import contextlib
import importlib
import types

import numpy as np
import pytest

from glpn_deploy.errors import BackendError, MissingDependencyError
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.runtimes.engine.cuda_memory import CapturedGraph, Channel, Cuda, CudaError, import_cudart

DEVICE = CudaDevice(0, "NVIDIA Test", (8, 7), 8 << 30, True, (12, 6))


@pytest.fixture
def sim(cuda_simulator):
    return cuda_simulator.CudaSimulator()


@pytest.fixture
def cuda(sim):
    return Cuda(sim, 0)


def test_the_simulator_speaks_as_the_real_bindings_do(cuda_simulator):
    """Run by hand with 12.9 and 13.4; those need no GPU to be imported."""
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    assert cuda_simulator.differences(real) == []


def test_the_comparison_finds_differences(cuda_simulator):
    def cudaMalloc():  # noqa: N802
        """cudaMalloc(size_t bytes)"""

    assert "cudaMalloc['bytes'], not ['size']" in cuda_simulator.differences(
        types.SimpleNamespace(cudaMalloc=cudaMalloc)
    )


# Importing --------------------------------------------------------------------------------------------


def missing(*names):
    def find(name):
        raise ModuleNotFoundError(f"No module named {names[0]!r}", name=names[0])

    return find


def test_cuda_python_is_missing(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", missing("cuda"))
    with pytest.raises(MissingDependencyError) as caught:
        import_cudart(DEVICE)
    assert caught.value.fix == 'pip install "cuda-bindings==12.*"'  # the driver's, not the latest


@pytest.mark.parametrize(
    "error", [ImportError("libcudart.so.12: cannot open"), ModuleNotFoundError("no x", name="x")]
)
def test_cuda_python_is_broken(error, monkeypatch):
    def broken(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BackendError, match="reinstall it: pip install"):
        import_cudart(DEVICE)


def test_the_older_layout_is_taken(sim, monkeypatch):
    def find(name):
        if name == "cuda.cudart":
            return sim
        raise ModuleNotFoundError("No module named 'cuda.bindings'", name="cuda.bindings")

    monkeypatch.setattr(importlib, "import_module", find)
    assert import_cudart(DEVICE) is sim


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("cudaErrorInsufficientDriver", r"later CUDA than the driver: .* CUDA 12\.6; pip install .*==12"),
        ("cudaErrorInvalidValue", "sees no device 0 .cudaErrorInvalidValue"),
    ],
)
def test_the_bindings_do_not_fit_the_driver(code, words, sim, monkeypatch):
    sim.fail("cudaGetDeviceCount", 1, sim.cudaError_t[code])
    monkeypatch.setattr(importlib, "import_module", lambda name: sim)
    with pytest.raises(BackendError, match=words):
        import_cudart(DEVICE)


# Calls and memory -------------------------------------------------------------------------------------


def test_a_failure_is_raised_and_taken_out_of_the_thread(cuda, sim):
    with pytest.raises(CudaError, match=r"cudaMalloc failed with cudaErrorMemoryAllocation .*smaller batch"):
        cuda.call("cudaMalloc", 1 << 40)
    assert "cudaGetLastError" in sim.calls
    assert sim.cudaGetLastError()[0] == 0


@pytest.mark.parametrize("mapped", [False, True])
def test_what_goes_up_comes_down(mapped, cuda, sim):
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        channel = Channel(cuda, owner, 64, mapped)
        sent = np.arange(10, dtype=np.float32)
        channel.host((10,), np.float32)[:] = sent
        channel.upload(40, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(sim.memory(channel.address, 40).view(np.float32), sent)
        channel.host((10,), np.float32)[:] = 0 if not mapped else sent
        channel.download(40, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(channel.host((10,), np.float32), sent)
        assert ("cudaMemcpyAsync" in sim.calls) is not mapped
        assert ("cudaMalloc" in sim.calls) is not mapped
    assert not sim.leaks()
    assert not sim.misuse


def test_spoilt_memory_is_nan(cuda, sim):
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        channel = Channel(cuda, owner, 64, mapped=False)
        channel.spoil(64, stream)
        cuda.synchronize(stream)
        for dtype in (np.float32, np.float16):
            assert np.isnan(sim.memory(channel.address, 64).view(dtype)).all()


@pytest.mark.parametrize("name", ["cudaHostAlloc", "cudaMalloc"])
def test_half_a_channel_is_freed(name, cuda, sim):
    sim.fail(name)
    with pytest.raises(CudaError), contextlib.ExitStack() as owner:
        Channel(cuda, owner, 64, mapped=False)
    assert not sim.leaks()


def test_nothing_is_done_before_the_stream_is_waited_for(cuda):
    """The simulator's own rule, on which the tests of the runtime rest."""
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        channel = Channel(cuda, owner, 4, mapped=False)
        channel.host((1,), np.float32)[:] = 1
        channel.upload(4, stream)
        channel.download(4, stream)
        channel.host((1,), np.float32)[:] = 7
        cuda.synchronize(stream)
        assert channel.host((1,), np.float32)[0] == 7  # the copy up saw what was written too early


# Graphs -----------------------------------------------------------------------------------------------


def test_a_graph_repeats_its_work(cuda, sim):
    ran = []
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        graph = CapturedGraph(cuda, stream, lambda: sim.enqueue(stream, lambda: ran.append(1)))
        assert not ran
        for _ in range(3):
            graph.launch()
        cuda.synchronize(stream)
        assert len(ran) == 3
        graph.close()
        graph.close()
    assert not sim.leaks()
    assert not sim.misuse


@pytest.mark.parametrize(
    "name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "work"]
)
def test_a_capture_that_fails_leaves_the_stream_usable(name, cuda, sim):
    def work():
        if name == "work":
            raise BackendError("no")

    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        sim.fail(name)
        with pytest.raises(BackendError):
            CapturedGraph(cuda, stream, work)
        if name != "cudaStreamEndCapture":  # whose failure the simulator makes up
            assert not sim.capturing(stream)
            cuda.synchronize(stream)
    assert not sim.leaks()


def test_after_a_fault_freeing_does_not_raise(cuda, sim):
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        cuda.call("cudaMemsetAsync", 12345, 0, 4, stream)
        with pytest.raises(CudaError, match="cudaErrorIllegalAddress"):
            cuda.synchronize(stream)
        with pytest.raises(CudaError, match="cudaMalloc failed with cudaErrorIllegalAddress"):
            cuda.call("cudaMalloc", 4)
