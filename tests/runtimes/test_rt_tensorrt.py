"""TensorRT on a simulated GPU: numbers, memory, graphs, threads, and how engines are refused."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import sys
import threading

import numpy as np
import pytest

from glpn_deploy.benchmarks.workload.workloads import TimedRuntime
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, BundleError, EngineError, InputError
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.runtimes import rt_tensorrt
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.engine import dlpack
from glpn_deploy.runtimes.rt_tensorrt import TensorRTRuntime, check, load
from tests.refusals import refused

RANGE = Profile((1, 32, 32), (1, 64, 96), (4, 96, 128))
FIXED = Profile.fixed((1, 64, 96))
SHAPES = [(1, 32, 32), (1, 64, 96), (4, 96, 128), (3, 32, 128)]
VERSIONS = ["8.6.0", "10.3.0", "10.13.3", "11.4.0"]
OUT_OF_ORDER = (("depth", "OUTPUT", "FLOAT"), ("pixel_values", "INPUT", "FLOAT"))
HALF = (("pixel_values", "INPUT", "HALF"), ("depth", "OUTPUT", "HALF"))
IMAGES = (("pixel_values", "INPUT", "UINT8"), ("depth", "OUTPUT", "FLOAT"))


@pytest.fixture
def depth_of(tensorrt_simulator):
    return tensorrt_simulator.depth_of


def loaded(path, **options) -> TensorRTRuntime:
    runtime = load(path, RuntimeOptions(**options))
    assert isinstance(runtime, TensorRTRuntime)
    return runtime


def graph_of(runtime) -> str:
    return runtime.describe()["last"]["cuda_graph"]


# Numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("integrated", [False, True])
def test_every_version_and_kind_of_memory(version, integrated, make_gpu, tmp_path, pixels, depth_of):
    gpu = make_gpu(version, integrated)
    with loaded(gpu.engine(tmp_path)) as runtime:
        assert (runtime.backend, runtime.device, runtime.precision) == ("tensorrt", "cuda:0", "fp32")
        assert runtime.max_depth == 10
        for turn in range(4):  # ordinary, captured, replayed, replayed
            for shape in SHAPES:
                sent = pixels(*shape, seed=turn)
                np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        for turn in range(4):
            sent = pixels(2, 64, 64, seed=turn)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        assert graph_of(runtime) == "replayed"
        assert runtime.describe()["zero_copy"] is integrated
    assert not gpu.cuda.leaks()
    assert not gpu.cuda.misuse
    assert gpu.trt.called("Runtime.engine_host_code_allowed =") == [(False,)]


@pytest.mark.parametrize(("tensors", "tolerance"), [(OUT_OF_ORDER, 0), (HALF, 2e-3)])
def test_order_and_types_come_from_the_engine(tensors, tolerance, gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path, tensors=tensors)) as runtime:
        for seed in range(3):
            sent = pixels(2, 64, 96, seed=seed)
            depth = runtime.run(sent)
            assert depth.dtype == np.float32
            np.testing.assert_allclose(depth, depth_of(sent), rtol=0, atol=tolerance)


def test_an_engine_of_images_takes_them_as_they_are(gpu, tmp_path, depth_of):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    with loaded(gpu.engine(tmp_path, tensors=IMAGES, io="uint8")) as runtime:
        assert (runtime.spec.dtype, runtime.spec.images_shape(images.shape)) == ("uint8", (2, 64, 96))
        for _ in range(3):  # the third is a CUDA graph
            np.testing.assert_array_equal(runtime.run(images), depth_of(images))
        floats = images.transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_array_equal(runtime.run(floats), depth_of(images))
        with refused(InputError, expected="uint8"):
            runtime.run(images.transpose(0, 3, 1, 2).copy())


def test_results_are_new_arrays(gpu, tmp_path, pixels, depth_of):
    sent = [pixels(1, 64, 96, seed=seed) for seed in range(4)]
    with loaded(gpu.engine(tmp_path)) as runtime:
        depths = [runtime.run(one) for one in sent]
    for one, depth in zip(sent, depths, strict=True):
        np.testing.assert_array_equal(depth, depth_of(one))


def test_a_slice_that_is_not_in_order_is_taken(gpu, tmp_path, pixels, depth_of):
    sent = pixels(2, 96, 64).transpose(0, 1, 3, 2)
    with loaded(gpu.engine(tmp_path)) as runtime:
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))


def test_every_profile_has_its_own_context(gpu, tmp_path, pixels, depth_of):
    small, large = Profile((1, 32, 32), (1, 32, 32), (2, 64, 64)), Profile.fixed((4, 96, 128))
    with loaded(gpu.engine(tmp_path, (large, small))) as runtime:
        assert len(gpu.tensorrt.contexts) == 1  # the others when they are needed
        for shape in [(4, 96, 128), (2, 64, 64), (1, 32, 64), (4, 96, 128)]:
            sent = pixels(*shape)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        assert len(gpu.tensorrt.contexts) == 2
        chosen = gpu.trt.called("IExecutionContext.set_optimization_profile_async")
        assert [index for index, _ in chosen] == [0, 1]
        assert runtime.describe()["last"]["profile"] == large.name
        memory = runtime.describe()["device_memory_bytes"]
        assert memory["activations"] == gpu.tensorrt.scratch
        first, second = gpu.trt.called("IExecutionContext.set_device_memory")  # shared by both
        assert first == second
        assert memory["buffers"] == 4 * 96 * 128 * 4 * 4  # three channels in and one out
        assert memory["total"] == memory["activations"] + memory["buffers"] + memory["weights"]
    assert not gpu.cuda.leaks()


# CUDA graphs ------------------------------------------------------------------------------------------


def test_a_graph_is_captured_when_a_shape_comes_twice_and_dropped_with_it(gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        runtime.run(pixels(1, 64, 96))
        assert graph_of(runtime).startswith("none yet")
        runtime.run(pixels(1, 64, 96))
        assert graph_of(runtime) == "replayed"
        ordinary = len(gpu.trt.called("IExecutionContext.execute_async_v3"))
        sent = pixels(1, 64, 96, seed=5)
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        assert len(gpu.trt.called("IExecutionContext.execute_async_v3")) == ordinary  # the graph ran
        runtime.run(pixels(1, 32, 32))
        assert graph_of(runtime).startswith("none yet")
        assert "graphs" not in gpu.cuda.leaks()
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("wrong", "differed from the ordinary run by 0.25 m"),
        ("empty", "differed from the ordinary run by nan m"),
        ("refused", "could not be captured: .*capturing"),
    ],
)
@pytest.mark.parametrize("integrated", [False, True])
def test_a_graph_that_is_not_right_is_not_used(
    fault, words, integrated, make_gpu, tmp_path, pixels, depth_of
):
    gpu = make_gpu(integrated=integrated)
    gpu.tensorrt.capture_fault = fault
    with loaded(gpu.engine(tmp_path)) as runtime:
        for seed in range(5):
            sent = pixels(1, 64, 96, seed=seed)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
            on_gpu = Lent(gpu.cuda, sent)
            np.testing.assert_array_equal(runtime.run_device(on_gpu).numpy(), depth_of(sent))
        assert re.search(words, graph_of(runtime))
        assert gpu.cuda.calls.count("cuStreamBeginCapture_v2") == 1  # not tried again
    assert not gpu.cuda.misuse


@pytest.mark.parametrize("name", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_cuda_refuses_the_graph(name, gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        gpu.cuda.fail(name)
        for seed in range(3):
            sent = pixels(1, 64, 96, seed=seed)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        assert f"could not be captured: {name} failed" in graph_of(runtime)
    assert not gpu.cuda.leaks()


def test_after_a_warm_up_the_first_run_is_a_graphs(gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        sent = pixels(1, 64, 96)
        np.testing.assert_array_equal(runtime.warm_up(sent), depth_of(sent))
        done = len(gpu.trt.called("IExecutionContext.execute_async_v3"))
        captured = gpu.cuda.calls.count("cuStreamBeginCapture_v2")
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
        assert gpu.cuda.calls.count("cuStreamBeginCapture_v2") == captured == 1
        assert len(gpu.trt.called("IExecutionContext.execute_async_v3")) == done


def test_depth_that_is_not_finite_proves_no_graph(gpu, tmp_path, pixels):
    sent = pixels(1, 64, 96)
    sent[0, 0, 0, 0] = np.nan
    with loaded(gpu.engine(tmp_path)) as runtime:
        for _ in range(3):
            assert np.isnan(runtime.run_unchecked(sent)[0, 0, 0])
        assert "not finite" in graph_of(runtime)


def test_graphs_can_be_switched_off(gpu, tmp_path, pixels):
    runtime = TensorRTRuntime(check(gpu.engine(tmp_path)), graphs=False)
    for _ in range(4):
        runtime.run(pixels(1, 64, 96))
    assert graph_of(runtime) == "switched off"
    assert "cuStreamBeginCapture_v2" not in gpu.cuda.calls
    runtime.close()


# Times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrated", [False, True])
def test_stages_are_timed(integrated, make_gpu, tmp_path, pixels, depth_of):
    gpu = make_gpu(integrated=integrated)
    sent = pixels(1, 64, 96)
    with loaded(gpu.engine(tmp_path)) as runtime:
        assert isinstance(runtime, TimedRuntime)
        for _ in range(4):  # the capture must not get into the times, nor the graph out of them
            depth, times = runtime.run_timed(sent)
            np.testing.assert_array_equal(depth, depth_of(sent))
            up, down = (0, 0) if integrated else (sent.nbytes / 1e6, depth.nbytes / 1e6)
            assert times == pytest.approx({"host_to_device": up, "compute": 2.0, "device_to_host": down})


# Arrays on the GPU ------------------------------------------------------------------------------------


class Lent:
    """Somebody's array on the simulated GPU, through the CUDA array interface."""

    def __init__(self, cuda, array, device=0, **changed):
        self.address = cuda.put(array, device)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "stream": None,
        } | changed


class Packed:
    """The same through DLPack, with the struct that numpy itself makes."""

    def __init__(self, array, place, device=(2, 0)):
        self.array, self.place, self.device, self.streams = array, place, device, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, stream=None):
        self.streams.append(stream)
        return dlpack.lend(self.place, self.array.shape, self.array.dtype, self.device, self)


def test_device_arrays_in_and_out(gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        for seed in range(4):
            sent = pixels(2, 64, 96, seed=seed)
            lent = Lent(gpu.cuda, sent)
            depth = runtime.run_device(lent)
            about = depth.__cuda_array_interface__
            assert (about["shape"], about["typestr"], about["version"]) == ((2, 64, 96), "<f4", 3)
            seen = gpu.cuda.memory(about["data"][0], sent.nbytes // 3).view(np.float32).reshape(2, 64, 96)
            np.testing.assert_array_equal(seen, depth_of(sent))
            np.testing.assert_array_equal(depth.numpy(), depth_of(sent))
            gpu.cuda.take_back(lent.address)  # it is the caller's again
        assert graph_of(runtime) == "replayed"


def test_device_arrays_through_dlpack(gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        sent = pixels(1, 64, 96)
        array = Packed(sent, gpu.cuda.put(sent))
        depth = runtime.run_device(array)
        np.testing.assert_array_equal(depth.numpy(), depth_of(sent))
        (stream,) = array.streams
        assert stream not in (None, 1)  # the producer must make our stream wait
        assert depth.__dlpack_device__() == (2, 0)
        taken = dlpack.borrow(depth.__dlpack__(stream=7))
        assert (taken.shape, taken.dtype, taken.device) == ((1, 64, 96), np.float32, (2, 0))
        seen = gpu.cuda.memory(taken.address, 64 * 96 * 4).view(np.float32).reshape(1, 64, 96)
        np.testing.assert_array_equal(seen, depth_of(sent))
        taken.release()
    assert not dlpack._LENT


@pytest.mark.parametrize("version", [2, 3])
def test_what_the_producer_still_has_to_do_is_waited_for(version, gpu, tmp_path, pixels, depth_of):
    sent = pixels(1, 64, 96)
    changed = {"version": version, "stream": 1}
    lent = Lent(gpu.cuda, np.zeros_like(sent), **changed)

    def produce():
        gpu.cuda.memory(lent.address, sent.nbytes)[:] = np.frombuffer(sent.tobytes(), np.uint8)

    gpu.cuda.enqueue(1, produce)
    with loaded(gpu.engine(tmp_path)) as runtime:
        np.testing.assert_array_equal(runtime.run_device(lent).numpy(), depth_of(sent))
    gpu.cuda.take_back(lent.address)
    assert not gpu.cuda.leaks()


def test_depth_on_the_gpu_is_not_handed_out_once_it_is_overwritten(gpu, tmp_path, pixels):
    runtime = loaded(gpu.engine(tmp_path))
    first = runtime.run_device(Lent(gpu.cuda, pixels(1, 64, 96)))
    runtime.run(pixels(1, 64, 96))
    second = runtime.run_device(Lent(gpu.cuda, pixels(1, 64, 96)))
    assert second.__cuda_array_interface__
    with refused(BackendError, got="overwritten"):
        first.numpy()
    runtime.close()
    for depth in (first, second):
        for use in (lambda d: d.__cuda_array_interface__, lambda d: d.__dlpack__(), lambda d: d.numpy()):
            with refused(BackendError, got="overwritten by a later run, or its runtime is closed"):
                use(depth)


def test_half_engines_take_half_on_the_gpu(gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path, tensors=HALF)) as runtime:
        sent = pixels(1, 64, 96).astype(np.float16)
        depth = runtime.run_device(Lent(gpu.cuda, sent))
        assert depth.dtype == np.float16
        np.testing.assert_allclose(depth.numpy(), depth_of(sent), rtol=0, atol=2e-3)
        with refused(InputError, got="dtype float32", expected="float16 (N, 3, H, W)"):
            runtime.run_device(Lent(gpu.cuda, pixels(1, 64, 96)))


def test_arrays_that_cannot_be_taken(make_gpu, tmp_path, pixels):
    gpu = make_gpu(devices=2)
    good = pixels(1, 64, 96)
    strides = tuple(2 * n for n in good.strides)
    cases = [
        (good, "ndarray"),
        (Lent(gpu.cuda, good[0]), r"shape \(3, 64, 96\)"),
        (Lent(gpu.cuda, good.astype(np.float64)), "dtype float64; expected float32"),
        (Lent(gpu.cuda, good, strides=strides), "has gaps or is not in C order"),
        (Lent(gpu.cuda, good, device=1), "the array is on cuda:1; expected one on cuda:0"),
        (Lent(gpu.cuda, good, data=(12345, False)), "is not in the GPU's memory; hand it to run"),
        (Packed(good, 0, device=(1, 0)), "is not in the GPU's memory"),
        (Packed(good, 0, device=(2, 1)), "on cuda:1"),
        (Lent(gpu.cuda, pixels(1, 64, 80)), "a side of the input is 80 px; expected a multiple of 32"),
        (Lent(gpu.cuda, pixels(1, 64, 160)), "a batch of 1x64x160 .* lies outside"),
        (object(), "the input is of type object, not an array on the GPU"),
    ]
    with loaded(gpu.engine(tmp_path)) as runtime:
        for array, words in cases:
            if isinstance(array, np.ndarray):
                words = "is not in the GPU's memory"  # numpy speaks DLPack, of the CPU
            with pytest.raises(InputError, match=words):
                runtime.run_device(array)
        runtime.run_device(Lent(gpu.cuda, good))
    assert not gpu.cuda.misuse


# Shapes -----------------------------------------------------------------------------------------------


def test_a_shape_outside_names_the_profiles_and_the_command(gpu, tmp_path, pixels):
    folder = tmp_path / "my bundle" / "engines"
    with loaded(gpu.engine(folder, (FIXED, Profile.fixed((2, 32, 32))))) as runtime:
        with pytest.raises(InputError) as caught:
            runtime.run(pixels(1, 96, 128))
        message = str(caught.value)
        assert (
            "a batch of 1x96x128 (images, height, width) lies outside what test.engine was built" in message
        )
        assert "expected 64x96.b1 or 32x32.b2" in message
        assert f"glpn-build '{tmp_path}/my bundle' --precision fp32" in message
        assert "1x96x128" in message.split("glpn-build")[1]
        assert runtime.run(pixels(1, 64, 96)).shape == (1, 64, 96)  # it is none the worse for it


def test_the_spec_tells_the_estimator_how_large_a_batch_may_be(gpu, tmp_path):
    for profiles, batch, most in [
        ((RANGE,), None, 4),
        ((FIXED, RANGE), None, 1),
        ((Profile.fixed((3, 64, 96)),), 3, 3),
        ((FIXED,), None, 1),
    ]:
        with loaded(gpu.engine(tmp_path, profiles)) as runtime:
            assert (runtime.spec.batch, runtime.spec.max_batch) == (batch, most)
            assert (runtime.spec.height, runtime.spec.width) == (None, None)


# Threads ----------------------------------------------------------------------------------------------


def in_threads(count, work):
    failed = []

    def one(number):
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("shared", [True, False])
def test_threads_with_one_runtime_or_one_each(shared, gpu, tmp_path, pixels, depth_of):
    path = gpu.engine(tmp_path)
    runtimes = [loaded(path) for _ in range(1 if shared else 3)]

    def work(number):
        runtime = runtimes[number % len(runtimes)]
        for turn in range(6):
            sent = pixels(1, 64, 96 if turn < 3 else 32 + 32 * number, seed=10 * number + turn)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
            depth, _ = runtime.run_timed(sent)
            np.testing.assert_array_equal(depth, depth_of(sent))

    in_threads(3, work)
    for runtime in runtimes:
        runtime.close()
    assert not gpu.cuda.leaks()


def test_a_thread_that_was_on_another_device(make_gpu, tmp_path, pixels, depth_of):
    gpu = make_gpu(devices=2)
    runtime = loaded(gpu.engine(tmp_path))
    sent = pixels(1, 64, 96)

    def work(number):
        gpu.cuda.driver().call(
            "cuCtxSetCurrent", gpu.cuda.driver().call("cuDevicePrimaryCtxRetain", 41)
        )  # another library's doing
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))

    in_threads(1, work)
    runtime.close()


def test_closing_while_others_run(gpu, tmp_path, pixels):
    runtime = loaded(gpu.engine(tmp_path))
    started = threading.Event()

    def work(number):
        if number == 0:
            started.wait()
            runtime.close()
            return
        for _ in range(50):
            started.set()
            try:
                runtime.run(pixels(1, 64, 96))
            except BackendError as error:
                if "closed" not in str(error):
                    raise
                return

    in_threads(3, work)
    assert not gpu.cuda.leaks()


# Memory -----------------------------------------------------------------------------------------------


def test_a_thousand_runs_take_no_more_memory(gpu, tmp_path, pixels):
    with loaded(gpu.engine(tmp_path)) as runtime:
        sent = [pixels(*shape) for shape in SHAPES]
        held = None
        for turn in range(1000):
            runtime.run(sent[turn // 10 % 4])
            if turn % 40 == 39:  # after the same shapes
                held = held or gpu.cuda.leaks()
                assert gpu.cuda.leaks() == held
        assert gpu.cuda.calls.count("cuMemAlloc_v2") == 3  # input, output and activations


def test_closed_twice_and_forgotten(gpu, tmp_path, pixels):
    runtime = loaded(gpu.engine(tmp_path))
    runtime.run(pixels(1, 64, 96))
    runtime.close()
    runtime.close()
    assert not gpu.cuda.leaks()
    assert len(gpu.tensorrt.engines) == len(gpu.tensorrt.contexts) == 0
    with refused(BackendError, got="the tensorrt runtime is closed"):
        runtime.run(pixels(1, 64, 96))
    with refused(BackendError, got="the tensorrt runtime is closed"):
        runtime.run_timed(pixels(1, 64, 96))
    assert runtime.describe()["device_memory_bytes"]["total"] == 0
    forgotten = loaded(gpu.engine(tmp_path))
    forgotten.run(pixels(1, 64, 96))
    del forgotten
    gc.collect(1)
    assert not gpu.cuda.leaks()


STEPS = [
    ("cuDevicePrimaryCtxRetain", 1),
    ("cuCtxSetCurrent", 1),
    ("cuStreamCreate", 1),
    ("cuEventCreate", 1),
    ("cuEventCreate", 4),
    ("cuMemHostAlloc", 1),
    ("cuMemAlloc_v2", 1),
    ("cuMemHostAlloc", 2),
    ("cuMemAlloc_v2", 2),
    ("cuMemAlloc_v2", 3),
    ("cuStreamSynchronize", 1),
]


@pytest.mark.parametrize(("name", "nth"), STEPS)
def test_nothing_is_left_of_a_load_that_fails_half_way(name, nth, gpu, tmp_path):
    gpu.cuda.fail(name, nth, gpu.cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(BackendError, match=f"{name} failed with CUDA_ERROR_OUT_OF_MEMORY"):
        loaded(gpu.engine(tmp_path))
    gc.collect(1)
    assert not gpu.cuda.leaks()
    assert len(gpu.tensorrt.engines) == 0
    loaded(gpu.engine(tmp_path)).close()


@pytest.mark.parametrize(
    "call",
    ["set_optimization_profile_async", "set_tensor_address"],
)
def test_tensorrt_refuses_half_way(call, gpu, tmp_path):
    gpu.trt.answers[f"IExecutionContext.{call}"] = lambda *_: False
    with refused(BackendError, got=("TensorRT does not take", f" in the profile {RANGE.name}")):
        loaded(gpu.engine(tmp_path))
    gc.collect(1)
    assert not gpu.cuda.leaks()


def test_no_room_for_a_context(gpu, tmp_path, pixels):
    gpu.tensorrt.no_room = 0
    with refused(BackendError, got=("no room for the profile", "OutOfMemory"), fix="close other programs"):
        loaded(gpu.engine(tmp_path))
    assert not gpu.cuda.leaks()
    gpu.tensorrt.no_room = 1
    with loaded(gpu.engine(tmp_path, (FIXED, Profile.fixed((1, 32, 32))))) as runtime:
        with refused(BackendError, got="no room for the profile 32x32.b1"):
            runtime.run(pixels(1, 32, 32))
        assert runtime.run(pixels(1, 64, 96)).shape == (1, 64, 96)


@pytest.mark.parametrize("name", ["cuMemcpyHtoDAsync_v2", "cuStreamSynchronize", "cuCtxSetCurrent"])
def test_a_run_that_fails_leaves_the_next_one_right(name, gpu, tmp_path, pixels, depth_of):
    with loaded(gpu.engine(tmp_path)) as runtime:
        for turn in range(4):
            sent = pixels(1, 64, 96, seed=turn)
            gpu.cuda.fail(name)
            with pytest.raises(BackendError, match=f"{name} failed"):
                runtime.run(sent)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))


def test_tensorrt_fails_in_a_run(gpu, tmp_path, pixels, depth_of):
    sent = pixels(1, 64, 96)
    with loaded(gpu.engine(tmp_path)) as runtime:
        real = gpu.trt.answers["IExecutionContext.execute_async_v3"]
        gpu.trt.answers["IExecutionContext.execute_async_v3"] = lambda *_: False
        with refused(BackendError, got="TensorRT does not run in the profile"):
            runtime.run(sent)
        gpu.trt.answers["IExecutionContext.execute_async_v3"] = real
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))


def test_an_array_is_the_callers_again_after_a_run_that_failed(gpu, tmp_path, pixels, depth_of):
    sent = pixels(1, 64, 96)
    with loaded(gpu.engine(tmp_path)) as runtime:
        real = gpu.trt.answers["IExecutionContext.execute_async_v3"]
        gpu.trt.answers["IExecutionContext.execute_async_v3"] = lambda *_: False
        lent = Lent(gpu.cuda, sent)
        with refused(BackendError, got="TensorRT does not run"):
            runtime.run_device(lent)
        gpu.cuda.take_back(lent.address)  # no copy of it may still be waiting
        gpu.trt.answers["IExecutionContext.execute_async_v3"] = real
        np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))


# Refusals ---------------------------------------------------------------------------------------------


def forbid(monkeypatch, name):
    monkeypatch.setattr(rt_tensorrt, name, lambda *_: pytest.fail(f"{name} was called"))


def test_no_gpu_is_said_before_tensorrt_is_imported(gpu, tmp_path, monkeypatch):
    def none():
        raise BackendError("there is no NVIDIA driver")

    monkeypatch.setattr(rt_tensorrt, "find_device", none)
    forbid(monkeypatch, "import_tensorrt")
    with refused(BackendError, got="no NVIDIA driver"):
        loaded(gpu.engine(tmp_path))


def test_on_this_machine_without_a_gpu_nothing_is_imported(tmp_path, gpu, monkeypatch):
    path = gpu.engine(tmp_path)
    monkeypatch.undo()
    try:
        find_device()
    except BackendError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    before = set(sys.modules)
    with pytest.raises(BackendError):
        load(path, RuntimeOptions())
    assert not {"tensorrt", "cuda.bindings"} & (sys.modules.keys() - before)


@pytest.mark.parametrize("content", [b"", b"\0" * 500, np.random.default_rng(0).bytes(5000)])
def test_a_plan_of_anything(content, gpu, tmp_path):
    """With a sidecar that vouches for it: TensorRT is asked, and its answer is told."""
    path = gpu.engine(tmp_path, content=content or b"x")
    with refused(EngineError, got=("does not take", "Serialization assertion"), fix="glpn-build"):
        loaded(path)
    assert not gpu.cuda.leaks()


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "gone", "no sidecar"])
def test_a_plan_that_is_not_the_one_that_was_built_never_reaches_tensorrt(damage, gpu, tmp_path):
    path = gpu.engine(tmp_path)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "no sidecar":
        path.with_suffix(".json").unlink()
    else:
        changed = {"cut": content[:50], "changed": b"[" + content[1:], "longer": content + b" "}
        path.write_bytes(changed[damage])
    with refused(EngineError, fix="glpn-build"):
        loaded(path)
    assert not gpu.trt.calls
    assert not gpu.cuda.leaks()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sm": "8.6"}, r"was built for .*8\.6"),
        ({"tensorrt": "10.13.3"}, r"was built with TensorRT 10\.13\.3; this is TensorRT 10\.3\.0"),
        ({"gpu": "NVIDIA Other"}, "was built for NVIDIA Other"),
    ],
)
def test_engines_of_other_machines(changed, words, gpu, tmp_path):
    with pytest.raises(EngineError, match=words) as caught:
        loaded(gpu.engine(tmp_path, **changed))
    assert "glpn-build" in caught.value.fix
    assert not gpu.trt.calls


def test_engines_of_other_bundles(gpu, bundle_copy):
    files = json.loads((bundle_copy / "manifest.json").read_text())["files"]
    right = files["model.onnx"]["sha256"]
    with loaded(gpu.engine(bundle_copy / "engines", onnx_sha256=right)) as runtime:
        assert runtime.profiles == (RANGE,)
    for changed, words in (
        ({"onnx_sha256": "1" * 64}, r"built from another model\.onnx than this bundle's"),
        (
            {"onnx_sha256": right, "onnx": "other.onnx"},
            r"built from other\.onnx .*which this bundle does not",
        ),
    ):
        with pytest.raises(EngineError, match=words) as caught:
            loaded(gpu.engine(bundle_copy / "engines", **changed))
        assert f"glpn-build {bundle_copy}" in caught.value.fix


TENSORS = [
    (("a", "INPUT", "FLOAT"), ("b", "INPUT", "FLOAT"), ("c", "OUTPUT", "FLOAT")),
    (("a", "INPUT", "FLOAT"), ("b", "OUTPUT", "FLOAT"), ("c", "OUTPUT", "FLOAT")),
    (("a", "INPUT", "INT8"), ("b", "OUTPUT", "FLOAT")),
    (("b", "OUTPUT", "FLOAT"),),
]


@pytest.mark.parametrize("tensors", TENSORS)
def test_engines_of_other_networks(tensors, gpu, tmp_path):
    with refused(EngineError, expected="one image batch in and one depth batch out"):
        loaded(gpu.engine(tmp_path, tensors=tensors))
    assert not gpu.cuda.leaks()


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0"])
def test_stripped_plans_get_their_weights_back_or_are_refused(
    version, make_gpu, bundle_copy, tmp_path, pixels, depth_of
):
    gpu = make_gpu(version)
    digest = hashlib.sha256((bundle_copy / "model.onnx").read_bytes()).hexdigest()
    inside = gpu.engine(bundle_copy / "engines", stripped=True, onnx_sha256=digest)
    if version == "8.6.0":
        with refused(EngineError, got="TensorRT 8.6.0 cannot put them back", fix="--strip"):
            loaded(inside)
    else:
        with loaded(inside) as runtime:
            sent = pixels(1, 64, 96)
            np.testing.assert_array_equal(runtime.run(sent), depth_of(sent))
            onnx = (bundle_copy / "model.onnx").stat().st_size
            assert runtime.describe()["device_memory_bytes"]["weights"] > onnx
        gpu.trt.answers["Refitter.refit_cuda_engine"] = lambda *_: False
        with refused(EngineError, got="lacks weights that model.onnx does not have"):
            loaded(inside)
        gpu.trt.answers["OnnxParserRefitter.refit_from_file"] = lambda *_: False
        with refused(EngineError, got="cannot be given the weights of model.onnx"):
            loaded(inside)
    with refused(EngineError, got="the .onnx file that holds them is not at hand"):
        loaded(gpu.engine(tmp_path / "alone", stripped=True))
    assert not gpu.cuda.leaks()


def test_a_changed_onnx_is_not_refitted_from(gpu, bundle_copy):
    digest = hashlib.sha256((bundle_copy / "model.onnx").read_bytes()).hexdigest()
    path = gpu.engine(bundle_copy / "engines", stripped=True, onnx_sha256=digest)
    with (bundle_copy / "model.onnx").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    with refused(BundleError, got="model.onnx changed since the export"):
        loaded(path)


def test_tensorrt_does_not_start(gpu, tmp_path):
    def fails(*_):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    gpu.trt.answers["Runtime.__init__"] = fails
    with refused(BackendError, got="TensorRT could not start"):
        loaded(gpu.engine(tmp_path))


def test_wrong_device_and_no_file(gpu, tmp_path):
    with refused(BackendError, got="NVIDIA GPUs only", fix="use device"):
        load(gpu.engine(tmp_path), RuntimeOptions(device="cpu"))
    with refused(EngineError, got="was given no .engine file", fix="build one with glpn-build"):
        load(None, RuntimeOptions())


def test_known_problems_are_told(gpu, tmp_path):
    with loaded(gpu.engine(tmp_path, precision="fp16")) as runtime:
        assert "TensorRT 10.3 gives wrong FP16 results" in runtime.describe()["why"]
    with loaded(gpu.engine(tmp_path)) as runtime:
        assert runtime.why == ""
