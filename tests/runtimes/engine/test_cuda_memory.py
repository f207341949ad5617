"""CUDA's calls, memory and graphs, on a simulated GPU that notices what a real one would only punish."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

from glpn_deploy.errors import BackendError
from glpn_deploy.gpu.cuda_driver import CudaError
from glpn_deploy.runtimes.engine import cuda_memory
from glpn_deploy.runtimes.engine.cuda_memory import CapturedGraph, Channel, Cuda


@pytest.fixture
def sim(cuda_simulator):
    return cuda_simulator.CudaSimulator()


@pytest.fixture
def cuda(sim, monkeypatch):
    monkeypatch.setattr(cuda_memory, "open_driver", sim.driver)
    cuda = Cuda(0)
    cuda.use()
    return cuda


# Calls and memory -------------------------------------------------------------------------------------


def test_a_failure_is_raised_with_its_name(cuda):
    with pytest.raises(
        CudaError, match=r"cuMemAlloc_v2 failed with .* \(text of 2\).*smaller batch"
    ) as caught:
        cuda.call("cuMemAlloc_v2", 1 << 40)
    assert (caught.value.code, caught.value.number) == ("CUDA_ERROR_OUT_OF_MEMORY", 2)


def test_the_context_is_the_threads(cuda):
    codes = []

    def work():
        for prepare in (lambda: None, cuda.use):
            prepare()
            try:
                cuda.synchronize(1)
                codes.append("")
            except CudaError as error:
                codes.append(error.code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == ["CUDA_ERROR_INVALID_CONTEXT", ""]


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
        assert ("cuMemcpyHtoDAsync_v2" in sim.calls) is not mapped
        assert ("cuMemAlloc_v2" in sim.calls) is not mapped
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


@pytest.mark.parametrize("name", ["cuMemHostAlloc", "cuMemAlloc_v2"])
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
    "name", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "work"]
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
        if name != "cuStreamEndCapture":  # whose failure the simulator makes up
            assert not sim.capturing(stream)
            cuda.synchronize(stream)
    assert not sim.leaks()


def test_after_a_fault_freeing_does_not_raise(cuda, sim):
    with contextlib.ExitStack() as owner:
        stream = cuda.stream(owner)
        cuda.call("cuMemsetD8Async", 12345, 0, 4, stream)
        with pytest.raises(CudaError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            cuda.synchronize(stream)
        with pytest.raises(CudaError, match="cuMemAlloc_v2 failed with CUDA_ERROR_ILLEGAL_ADDRESS"):
            cuda.call("cuMemAlloc_v2", 4)
