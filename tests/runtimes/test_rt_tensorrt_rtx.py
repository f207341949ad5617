"""TensorRT for RTX's engines on a simulated GPU, behind the recorded names of 1.7.1."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.engine_sidecar import artefact_digest
from glpn_deploy.bundle.manifest import Manifest
from glpn_deploy.errors import BackendError, EngineError, InputError
from glpn_deploy.runtimes import rt_tensorrt, rt_tensorrt_rtx
from glpn_deploy.runtimes.engine.engine_set import open_engines
from glpn_deploy.runtimes.options import RuntimeOptions

TARGETS = {"backend": "tensorrt_rtx", "targets": ("8.6", "8.7"), "gpu": "", "sm": None}


class Blob(bytes):
    """What `IRuntimeCache.serialize` gives, as far as a buffer goes."""


@pytest.fixture
def rtx(make_gpu):
    """A machine with TensorRT for RTX, whose compiler makes a kernel for every context."""
    gpu = make_gpu("1.7.1")
    gpu.compiled, gpu.restored, gpu.takes = [], [], True
    gpu.trt.answers["IRuntimeCache.serialize"] = lambda cache: Blob(b"kernels of 8.7" * len(gpu.compiled))
    create = gpu.trt.answers["ICudaEngine.create_execution_context"]

    def compiled(engine, config):
        assert config.dynamic_shapes_kernel_specialization_strategy == (
            gpu.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        gpu.compiled.append(config)
        return create(engine, config)

    def deserialize(cache, blob):
        gpu.restored.append(bytes(blob))
        return gpu.takes

    gpu.trt.answers["ICudaEngine.create_execution_context"] = compiled
    gpu.trt.answers["IRuntimeCache.deserialize"] = deserialize
    yield gpu
    assert not gpu.cuda.misuse


def test_an_engine_runs(rtx, tmp_path, pixels, tensorrt_simulator):
    with rt_tensorrt_rtx.load(rtx.engine(tmp_path, **TARGETS), RuntimeOptions()) as runtime:
        image = pixels(2, 64, 96)
        for _ in range(3):  # the ordinary run, the captured one, the replayed one
            np.testing.assert_array_equal(runtime.run(image), tensorrt_simulator.depth_of(image))
        about = runtime.describe()
    assert (about["backend"], about["last"]["cuda_graph"]) == ("tensorrt_rtx", "replayed")
    assert not rtx.restored  # no cache was asked for
    assert not rtx.trt.called("IRuntimeConfig.set_runtime_cache")


def test_kernels_are_kept_for_the_next_start(rtx, tmp_path):
    engine, options = rtx.engine(tmp_path, **TARGETS), RuntimeOptions(cache=tmp_path / "cache")
    rt_tensorrt_rtx.load(engine, options).close()
    assert not rtx.restored
    rt_tensorrt_rtx.load(engine, options).close()
    assert rtx.restored == [b"kernels of 8.7"]
    assert len(rtx.trt.called("IRuntimeConfig.set_runtime_cache")) == 2


def test_kernels_outlive_a_process_that_is_killed(rtx, tmp_path):
    options = RuntimeOptions(cache=tmp_path / "cache")
    runtime = rt_tensorrt_rtx.load(rtx.engine(tmp_path, **TARGETS), options)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # before anything is closed
    runtime.close()


def test_kernels_of_another_driver_are_replaced(rtx, tmp_path):
    engine, options = rtx.engine(tmp_path, **TARGETS), RuntimeOptions(cache=tmp_path / "cache")
    rt_tensorrt_rtx.load(engine, options).close()
    rtx.takes = False
    rt_tensorrt_rtx.load(engine, options).close()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    rtx.takes, rtx.restored = True, []
    rt_tensorrt_rtx.load(engine, options).close()
    assert rtx.restored == [b"kernels of 8.7" * 2]


def test_damaged_kernels_are_not_given_to_the_compiler(rtx, tmp_path):
    engine, options = rtx.engine(tmp_path, **TARGETS), RuntimeOptions(cache=tmp_path / "cache")
    rt_tensorrt_rtx.load(engine, options).close()
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    rt_tensorrt_rtx.load(engine, options).close()
    assert not rtx.restored


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"targets": ("8.9", "12.0")}, "compute capability 8.9, 12.0"),
        ({"tensorrt": "1.6.0"}, "TensorRT for RTX 1.6.0"),
        ({"platform": "linux-aarch64"}, None),
    ],
)
def test_engines_of_other_machines(rtx, tmp_path, changed, words):
    engine = rtx.engine(tmp_path / "b" / "engines", **{**TARGETS, **changed})
    if words is None:  # of another operating system: they are portable
        rt_tensorrt_rtx.load(engine, RuntimeOptions()).close()
        return
    with pytest.raises(EngineError) as caught:
        rt_tensorrt_rtx.load(engine, RuntimeOptions())
    assert words in caught.value.got
    targets = ",".join(changed.get("targets", TARGETS["targets"])).replace(".", "")
    assert f"--rtx --sm {targets}" in caught.value.fix


def test_engines_of_the_other_backend(rtx, tmp_path):
    mine, theirs = rtx.engine(tmp_path / "a", **TARGETS), rtx.engine(tmp_path / "b")
    for module, engine in ((rt_tensorrt, mine), (rt_tensorrt_rtx, theirs)):
        with pytest.raises(EngineError) as caught:
            module.load(engine, RuntimeOptions())
        assert "backend tensorrt" in caught.value.fix
    with pytest.raises(BackendError):
        rt_tensorrt_rtx.load(mine, RuntimeOptions(device="cpu"))


def test_an_engine_says_which_backend_it_is_for(rtx, tmp_path):
    engine = rtx.engine(tmp_path, **TARGETS)
    with DepthEstimator.load(engine) as estimator:
        assert estimator.runtime.backend == "tensorrt_rtx"
    with pytest.raises(InputError):
        DepthEstimator.load(engine, backend="tensorrt")


def test_what_the_header_says_is_told(rtx, tmp_path):
    bits = {name: member.value for name, member in rtx.trt.EngineInvalidityDiagnostics.__members__.items()}
    fault = bits["UNSUPPORTED_CC"] | bits["OLD_CUDA_DRIVER"]
    rtx.trt.answers["Runtime.engine_header_size"] = lambda runtime: 4
    rtx.trt.answers["Runtime.get_engine_validity"] = lambda runtime, plan: (
        rtx.trt.EngineValidity.INVALID,
        fault if plan == b"noth" else 0,
    )
    engine = rtx.engine(tmp_path, content=b"nothing of this product", **TARGETS)
    with pytest.raises(EngineError) as caught:
        rt_tensorrt_rtx.load(engine, RuntimeOptions())
    assert "compute capability" in caught.value.got
    assert "driver is too old" in caught.value.got


@pytest.fixture
def mixed_bundle(rtx, bundle_copy: Path) -> Path:
    """A bundle with an engine of each product; the machine has TensorRT for RTX alone."""
    manifest = Manifest.from_json((bundle_copy / "manifest.json").read_text(), "it")
    about = {"onnx_sha256": artefact_digest(manifest, manifest.artefacts[0])}
    rtx.engine(bundle_copy / "engines", name="rtx.engine", **TARGETS, **about)
    rtx.engine(bundle_copy / "engines", name="trt.engine", tensorrt="10.3.0", **about)
    return bundle_copy


def test_a_bundles_engines_are_told_apart(mixed_bundle):
    with open_engines(mixed_bundle, "fp32", 10.0, RuntimeOptions(), backend="tensorrt_rtx") as runtime:
        assert (runtime.backend, [*runtime.describe()["engines"]]) == ("tensorrt_rtx", ["rtx.engine"])
    with pytest.raises(EngineError) as caught:
        open_engines(mixed_bundle, "fp16", 10.0, RuntimeOptions(), backend="tensorrt_rtx")
    assert caught.value.fix.endswith("--precision fp16 --rtx")


def test_auto_takes_the_engine_that_runs(mixed_bundle, monkeypatch):
    def absent() -> types.ModuleType:
        raise BackendError("no TensorRT here")

    monkeypatch.setattr(rt_tensorrt, "import_tensorrt", absent)
    with DepthEstimator.load(mixed_bundle) as estimator:
        assert estimator.runtime.backend == "tensorrt_rtx"
        assert "no TensorRT here" in estimator.runtime.why
    with DepthEstimator.load(mixed_bundle, backend="tensorrt_rtx") as estimator:
        assert estimator.runtime.backend == "tensorrt_rtx"
