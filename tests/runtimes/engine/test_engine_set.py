"""Several engines as one runtime: which runs what, what falls back, and what is said about it."""

from __future__ import annotations

import functools
import json
import threading

import numpy as np
import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, EngineError, InputError
from glpn_deploy.runtimes import rt_tensorrt
from glpn_deploy.runtimes.base import RuntimeOptions
from glpn_deploy.runtimes.engine.engine_set import EngineSet, Part, engines_of, open_engines
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused

SMALL, LARGE = (
    Profile((1, 32, 32), (1, 64, 96), (2, 64, 96)),
    Profile((1, 32, 32), (4, 96, 128), (4, 96, 128)),
)


class Numbered(NullRuntime):
    """Answers with its own number, and counts what is open."""

    opened: dict[str, int]

    def __init__(self, name, number, opened):
        super().__init__(number)
        self.backend, self.name, self.opened = name, name, opened
        opened[name] = opened.get(name, 0) + 1

    def _free(self):
        self.opened[self.name] -= 1


@pytest.fixture
def opened():
    return {}


def make(opened, *parts, fallback=True, broken=()):
    def part(name, number, profiles):
        def open_it():
            if name in broken:
                raise BackendError(f"{name} has no room")
            return Numbered(name, number, opened)

        return Part(name, tuple(profiles), open_it)

    spare = (lambda: Numbered("openvino", 99, opened)) if fallback else None
    made = [part(name, number, profiles) for number, (name, *profiles) in enumerate(parts)]
    return EngineSet(made, "fp32", 100.0, rebuild=lambda shape: f"glpn-build B {shape}", fallback=spare)


def ran(runtime, pixels, *shape):
    return runtime.run(pixels(*shape))[0, 0, 0]


def test_the_tightest_engine_runs_and_the_others_stay_closed(opened, pixels):
    runtime = make(opened, ("large", LARGE), ("small", SMALL), ("fixed", Profile.fixed((1, 64, 96))))
    assert opened == {"large": 1}  # so that an engine that cannot run is found when it is loaded
    assert ran(runtime, pixels, 1, 64, 96) == 2
    assert opened == {"large": 1, "fixed": 1}
    assert ran(runtime, pixels, 2, 64, 96) == 1
    assert ran(runtime, pixels, 4, 96, 128) == 0
    assert ran(runtime, pixels, 3, 32, 32) == 0
    assert opened == {"large": 1, "fixed": 1, "small": 1}
    about = runtime.describe()
    assert about["last"] == {"ran": "large"}
    assert about["open"] == ["fixed", "large", "small"]
    assert (about["backend"], runtime.why) == ("tensorrt", "")
    runtime.close()
    assert set(opened.values()) == {0}


def test_the_fallback_is_opened_when_it_is_needed_and_said_once(opened, pixels):
    runtime = make(opened, ("small", SMALL))
    assert "openvino" not in opened
    for _ in range(3):
        assert ran(runtime, pixels, 1, 128, 128) == 99
    assert opened["openvino"] == 1
    assert runtime.why.count("fits no engine") == 1
    assert runtime.why.startswith("a batch of 1x128x128 fits no engine and ran on openvino (none, fp32)")
    assert "glpn-build B (1, 128, 128) builds an engine for it" in runtime.why
    about = runtime.describe()
    assert about["last"]["ran"] == "openvino (fallback)"
    assert about["fallback"]["backend"] == "openvino"
    assert ran(runtime, pixels, 1, 64, 64) == 0
    assert runtime.describe()["last"]["ran"] == "small"
    runtime.close()
    assert set(opened.values()) == {0}


def test_without_a_fallback_the_shape_is_refused(opened, pixels):
    runtime = make(opened, ("small", SMALL), ("large", LARGE), fallback=False)
    with refused(InputError, expected=("32-64x32-96.b1-2", "or"), fix="glpn-build B (1, 128, 128)"):
        runtime.run(pixels(1, 128, 128))
    assert ran(runtime, pixels, 1, 32, 32) == 0


def test_batches_are_cut_to_what_the_engines_take(opened):
    assert make(opened, ("small", SMALL), ("large", LARGE)).spec.max_batch == 2
    assert make(opened, ("large", LARGE), fallback=False).spec.max_batch == 4


FOUR = Profile.fixed((4, 96, 128))


@pytest.mark.parametrize("fallback", [True, False])
def test_a_small_batch_is_filled_up_to_what_an_engine_of_its_size_takes(fallback, gpu, tmp_path, pixels):
    """The engines' fixed batches differ: each size has its own."""
    eight = Profile((6, 64, 96), (8, 64, 96), (8, 64, 96))
    ones, spare = Profile.fixed((1, 32, 32)), NullRuntime(9.0)
    parts = [
        Part(path.name, (profile,), functools.partial(rt_tensorrt.load, path, RuntimeOptions()))
        for profile in (FOUR, eight, ones)
        for path in [gpu.engine(tmp_path, (profile,), f"{profile.name}.engine")]
    ]
    with EngineSet(parts, "fp32", 10.0, fallback=(lambda: spare) if fallback else None) as runtime:
        assert runtime.spec.batch is None  # else other sizes would be filled up, too
        for n, height, width in [(1, 96, 128), (3, 96, 128), (4, 96, 128), (2, 64, 96), (1, 32, 32)]:
            sent = pixels(n, height, width)
            filled = {96: 4, 64: 6, 32: 1}[height]
            depth = runtime.run(sent)
            assert depth.shape == (n, height, width)
            assert runtime.describe()["last"]["shape"] == [filled, height, width]
            place = np.arange(depth.size, dtype=np.float32).reshape(depth.shape)
            colour = (sent * np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)).sum(1)
            np.testing.assert_allclose(depth, colour + 1e-3 * np.sqrt(place), rtol=1e-6)
        for shape in [(5, 96, 128), (1, 128, 128)]:  # more than fits, and a size that none has
            if fallback:
                assert (runtime.run(pixels(*shape)) == 9).all()
            else:
                with refused(InputError, got="lies outside"):
                    runtime.run(pixels(*shape))


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_one_image_runs_on_an_engine_of_a_fixed_batch(backend, gpu, bundle_copy):
    gpu.engine(bundle_copy / "engines", (FOUR,), onnx_sha256=digest(bundle_copy))
    image = np.full((96, 128, 3), 90, np.uint8)
    with DepthEstimator.load(bundle_copy, backend) as estimator:
        one = estimator(image).depth
        two = [found.depth for found in estimator.predict([image, image])]
        assert "fits no engine" not in estimator.runtime.why
        assert estimator.runtime.describe()["last"]["shape"] == [4, 96, 128]
    assert one.shape == (96, 128)
    np.testing.assert_array_equal(two[0], one)
    shapes = {shape for _, shape in gpu.trt.called("IExecutionContext.set_input_shape")}
    assert shapes == {(4, 3, 96, 128)}


def test_an_engine_for_a_filled_batch_that_does_not_open(opened, pixels):
    larger = Profile.fixed((8, 96, 128))
    runtime = make(opened, ("large", SMALL), ("four", FOUR), ("eight", larger), broken=["four"])
    assert ran(runtime, pixels, 1, 96, 128) == 2
    assert "four does not open" in runtime.why
    runtime = make(opened, ("large", SMALL), ("four", FOUR), broken=["four"])
    assert ran(runtime, pixels, 1, 96, 128) == 99


def test_a_damaged_first_engine_does_not_disable_the_others(opened, pixels):
    runtime = make(opened, ("a", FOUR), ("b", LARGE), ("c", SMALL), broken=["a", "c"])
    assert opened == {"b": 1}
    assert runtime.why == "a does not open (a has no room.)"
    assert runtime.spec.max_batch == 2  # of b and c; the damaged one's profile is forgotten
    assert runtime.describe()["engines"].keys() == {"b", "c"}
    assert ran(runtime, pixels, 1, 64, 96) == 1
    assert [part in runtime.why for part in ("a does not open", "c does not open")] == [True, True]
    alone = make(opened, ("a", FOUR), ("b", SMALL), fallback=False, broken=["a"])
    with refused(InputError, expected="32-64x32-96.b1-2"):
        alone.run(pixels(4, 96, 128))


def test_where_no_engine_opens_every_reason_is_told(opened):
    with refused(
        BackendError, got=("no engine opens: a does not", "a has no room", "b does not", "b has no room")
    ):
        make(opened, ("a", FOUR), ("b", SMALL), broken=["a", "b"])
    assert opened == {}


def test_an_engine_that_does_not_open_is_left_out(opened, pixels):
    runtime = make(opened, ("large", LARGE), ("small", SMALL), broken=["small"])
    assert ran(runtime, pixels, 1, 64, 96) == 0  # the next tightest
    assert "small does not open (small has no room.)" in runtime.why
    assert ran(runtime, pixels, 1, 64, 96) == 0
    assert runtime.why.count("does not open") == 1
    with refused(BackendError, got="has no room"):
        make(opened, ("large", LARGE), broken=["large"])
    fixed = Profile.fixed((1, 256, 256))
    runtime = make(opened, ("large", LARGE), ("fixed", fixed), broken=["fixed"])
    assert ran(runtime, pixels, 1, 256, 256) == 99
    runtime = make(opened, ("large", LARGE), ("fixed", fixed), broken=["fixed"], fallback=False)
    for _ in range(2):  # the reason, and not that no engine takes the shape
        with refused(BackendError, got="fixed has no room"):
            runtime.run(pixels(1, 256, 256))


def test_closed(opened, pixels):
    runtime = make(opened, ("small", SMALL))
    runtime.close()
    runtime.close()
    with refused(BackendError, got="closed"):
        runtime.run(pixels(1, 64, 96))
    with refused(BackendError, got="closed"):
        runtime.run_device(pixels(1, 64, 96))
    assert opened == {"small": 0}


def test_threads_open_every_engine_once(opened, pixels):
    runtime = make(opened, ("large", LARGE), ("small", SMALL))
    threads = [
        threading.Thread(target=lambda n=n: ran(runtime, pixels, 1, 64 + 64 * (n % 2), 96)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == {"large": 1, "small": 1, "openvino": 1}


# From a bundle ----------------------------------------------------------------------------------------


def digest(bundle):
    return json.loads((bundle / "manifest.json").read_text())["files"]["model.onnx"]["sha256"]


def test_a_bundles_engines(gpu, bundle_copy, pixels, tensorrt_simulator):
    about = {"onnx_sha256": digest(bundle_copy)}
    folder = bundle_copy / "engines"
    gpu.engine(folder, (SMALL,), "a.engine", **about)
    gpu.engine(folder, (Profile.fixed((4, 96, 128)),), "b.engine", **about)
    gpu.engine(folder, (LARGE,), "half.engine", precision="fp16", **about)
    gpu.engine(folder, (LARGE,), "other.engine", sm="8.6", **about)
    (folder / "stray.engine").write_bytes(b"x")
    assert [path.name for path in engines_of(bundle_copy, "fp32")] == [
        "a.engine",
        "b.engine",
        "other.engine",
        "stray.engine",
    ]
    with open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions()) as runtime:
        assert re_words(runtime.why, "other.engine was built for", "stray.engine has no sidecar")
        for shape in [(1, 64, 96), (4, 96, 128), (2, 32, 32)]:
            sent = pixels(*shape)
            np.testing.assert_array_equal(runtime.run(sent), tensorrt_simulator.depth_of(sent))
        about = runtime.describe()
        assert about["last"]["ran"] == "a.engine"
        assert about["open"] == ["a.engine", "b.engine"]
        assert about["device_memory_bytes"]["total"] > 2 * gpu.tensorrt.scratch
        with refused(InputError, fix=f"glpn-build {bundle_copy} --precision fp32"):
            runtime.run(pixels(1, 128, 128))
    assert not gpu.cuda.leaks()


def test_a_bundle_whose_first_engine_is_damaged(gpu, bundle_copy, pixels, tensorrt_simulator):
    about = {"onnx_sha256": digest(bundle_copy)}
    folder = bundle_copy / "engines"
    gpu.engine(folder, (LARGE,), "a.engine", **about)
    gpu.engine(folder, (SMALL,), "b.engine", content=b"not a plan", **about)
    gpu.engine(folder, (SMALL,), "c.engine", **about)
    (folder / "a.engine").write_bytes((folder / "a.engine").read_bytes()[:-1] + b" ")
    (folder / "stray.engine").write_bytes(b"x")
    with open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions()) as runtime:
        sent = pixels(1, 64, 96)
        np.testing.assert_array_equal(runtime.run(sent), tensorrt_simulator.depth_of(sent))
        assert runtime.describe()["last"]["ran"] == "c.engine"
        assert re_words(
            runtime.why, "the content of", "b.engine does not open", "does not take", "stray.engine has no"
        )
    assert not gpu.cuda.leaks()
    (folder / "c.engine").unlink()
    (folder / "c.json").unlink()
    with refused(EngineError, got=("no engine opens: a.engine", "b.engine", "glpn-build")):
        open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions())


def re_words(text, *words):
    return all(word in text for word in words)


def test_arrays_on_the_gpu_find_their_engine(gpu, bundle_copy, pixels, tensorrt_simulator):
    about = {"onnx_sha256": digest(bundle_copy)}
    gpu.engine(bundle_copy / "engines", (SMALL,), "a.engine", **about)
    gpu.engine(bundle_copy / "engines", (Profile.fixed((4, 96, 128)),), "b.engine", **about)
    with open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions(), NullRuntime) as runtime:
        for shape in [(1, 64, 96), (4, 96, 128)]:
            sent = pixels(*shape)
            lent = type("Lent", (), {})()
            lent.__cuda_array_interface__ = {
                "shape": sent.shape,
                "typestr": "<f4",
                "data": (gpu.cuda.put(sent), False),
                "version": 3,
                "stream": None,
            }
            depth = runtime.run_device(lent)
            np.testing.assert_array_equal(depth.numpy(), tensorrt_simulator.depth_of(sent))
        lent.__cuda_array_interface__["shape"] = (1, 3, 256, 256)
        with refused(InputError, got="a batch of 1x256x256"):
            runtime.run_device(lent)  # the fallback takes no arrays on the GPU


def test_why_there_is_no_engine(gpu, bundle_copy):
    options = RuntimeOptions()
    with refused(
        EngineError, got="has no fp32 engine", fix=("build one here: glpn-build", "--precision fp32")
    ):
        open_engines(bundle_copy, "fp32", 10.0, options)
    gpu.engine(bundle_copy / "engines", precision="fp16", onnx_sha256=digest(bundle_copy))
    with refused(EngineError, got="(it has fp16: ask for --precision fp16, or precision='fp16' in"):
        open_engines(bundle_copy, "fp32", 10.0, options)
    gpu.engine(bundle_copy / "engines", name="old.engine", tensorrt="10.1.0")
    with refused(EngineError, got="old.engine was built with TensorRT 10.1.0", fix="glpn-build"):
        open_engines(bundle_copy, "fp32", 10.0, options)
    with refused(BackendError, got="NVIDIA GPUs only"):
        open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions(device="cpu"))


def test_a_machine_without_a_gpu_is_not_blamed_on_the_engines(gpu, bundle_copy, monkeypatch):
    def none():
        raise BackendError("there is no NVIDIA driver")

    gpu.engine(bundle_copy / "engines")
    monkeypatch.setattr(rt_tensorrt, "find_device", none)
    with refused(BackendError, got="no NVIDIA driver") as caught:
        open_engines(bundle_copy, "fp32", 10.0, RuntimeOptions())
    assert not isinstance(caught.value, EngineError)


def test_a_warm_up_opens_what_runs_the_shape_and_captures_its_graph(gpu, tmp_path, pixels):
    path = gpu.engine(tmp_path, (LARGE,))
    part = Part(path.name, (LARGE,), lambda: rt_tensorrt.load(path, RuntimeOptions()))
    spare = NullRuntime(7)
    with EngineSet([part], "fp32", 10.0, fallback=lambda: spare) as runtime:
        runtime.warm_up(pixels(4, 96, 128))
        captured = gpu.cuda.calls.count("cuStreamBeginCapture_v2")
        runtime.run(pixels(4, 96, 128))
        assert gpu.cuda.calls.count("cuStreamBeginCapture_v2") == captured == 1
        assert runtime.warm_up(pixels(1, 160, 160)).shape == (1, 160, 160)
        assert "fallback" in runtime.describe()
