"""Versions against what the real modules of 8.6, 10.3, 10.13 and 11.4 offer."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import types

import pytest

from glpn_deploy.errors import BackendError, MissingDependencyError
from glpn_deploy.gpu import tensorrt_versions
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.gpu.tensorrt_versions import (
    collecting_logger,
    import_tensorrt,
    known_problem,
    least_cuda,
    parse_version,
    tensorrt_of,
    unsupported,
)
from tests.refusals import refused

VERSIONS = ("8.6.0", "10.3.0", "10.13.3", "11.4.0")


def device(*sm: int) -> CudaDevice:
    return CudaDevice(0, "Orin", (sm[0], sm[1]), 8 * 2**30, integrated=True, driver=(12, 6))


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU; what was asked of it is kept."""
    asked = []

    def find(index=0, least_cuda=None):
        asked.append(least_cuda)
        return device(8, 7)

    monkeypatch.setattr(tensorrt_versions, "find_device", find)
    return asked


def installed(monkeypatch, module=None, error=None):
    """Makes ``import tensorrt`` give a module, or fail."""

    def load(name):
        assert name == "tensorrt"
        if error is not None:
            raise error
        return module

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: types.SimpleNamespace(name=name))
    monkeypatch.setattr(importlib, "import_module", load)


@pytest.mark.parametrize(
    ("version", "opset", "typed", "bits"),
    [
        # NetworkDefinitionCreationFlag: 8.6 {EXPLICIT_BATCH: 0, EXPLICIT_PRECISION: 1};
        # 10 {EXPLICIT_BATCH: 0, STRONGLY_TYPED: 1}; 11.4 {STRONGLY_TYPED: 0, ...}
        ("8.6.0", 17, False, 0b1),
        ("10.3.0", 20, True, 0b10),
        ("10.13.3", 20, True, 0b10),
        ("11.4.0", 25, True, 0b1),
    ],
)
def test_what_a_version_can_do(tensorrt_stand_in, version, opset, typed, bits):
    about = tensorrt_of(tensorrt_stand_in(version))
    assert about.text == version
    assert about.version == tuple(map(int, version.split(".")))
    assert (about.max_opset, about.strongly_typed, about.network_flags()) == (opset, typed, bits)


def test_names_are_looked_up(tensorrt_stand_in):
    stripped = [tensorrt_of(tensorrt_stand_in(version)).has("BuilderFlag.STRIP_PLAN") for version in VERSIONS]
    assert stripped == [False, True, True, True]
    fp16 = [tensorrt_of(tensorrt_stand_in(version)).has("BuilderFlag.FP16") for version in VERSIONS]
    assert fp16 == [True, True, True, False]
    about = tensorrt_of(tensorrt_stand_in("11.4.0"))
    assert about.member("BuilderFlag.REFIT").name == "REFIT"
    assert about.member("No.Such.Name") is None


def test_versions_of_tomorrow_are_typed():
    assert tensorrt_of(types.SimpleNamespace(__version__="12.0.1")).strongly_typed
    assert tensorrt_of(types.SimpleNamespace(__version__="12.0.1")).network_flags() == 0


@pytest.mark.parametrize("version", ["8.5.2.2", "7.1", "nonsense"])
def test_versions_before_layer_normalization_are_refused(version):
    with refused(BackendError, got="LayerNormalization", fix="JetPack 6.0 or later"):
        tensorrt_of(types.SimpleNamespace(__version__=version))


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.13.3.9", (10, 13, 3)), ("8.6.2", (8, 6, 2)), ("11.4", (11, 4, 0)), ("10.0.0b6", (10, 0, 0))],
)
def test_parse_version(text, version):
    assert parse_version(text) == version


def test_the_gpu_is_looked_for_before_tensorrt_is_imported(monkeypatch):
    def none(*_, **__):
        raise BackendError("no GPU")

    monkeypatch.setattr(tensorrt_versions, "find_device", none)
    installed(monkeypatch, error=AssertionError("imported"))
    with refused(BackendError, got="no GPU"):
        import_tensorrt()


def test_import(monkeypatch, gpu, tensorrt_stand_in):
    module = tensorrt_stand_in("10.3.0")
    installed(monkeypatch, module)
    assert import_tensorrt() is module
    assert gpu == [None]


def test_the_driver_must_suit_the_wheels(monkeypatch, gpu, tensorrt_stand_in):
    def version(name):
        if name == "tensorrt-cu13":
            return "11.4.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    installed(monkeypatch, tensorrt_stand_in("11.4.0"))
    assert least_cuda() == (13, 0)
    import_tensorrt()
    assert gpu == [(13, 0)]


@pytest.mark.parametrize(("jetson", "hint"), [(False, "pip install"), (True, "--system-site-packages")])
def test_not_installed(monkeypatch, gpu, tmp_path, jetson, hint):
    release = tmp_path / "nv_tegra_release"
    if jetson:
        release.write_text("# R36 (release), REVISION: 4.3")
    monkeypatch.setattr(tensorrt_versions, "_JETSON", release)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=hint):
        import_tensorrt()


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libnvinfer.so.10: cannot open"),
        FileNotFoundError("Could not find: nvinfer"),
        OSError("x"),
    ],
)
def test_broken(monkeypatch, gpu, error):
    installed(monkeypatch, error=error)
    with refused(BackendError, got="does not import (", fix="reinstall it"):
        import_tensorrt()


def test_a_version_too_old_is_refused_at_import(monkeypatch, gpu):
    installed(monkeypatch, types.SimpleNamespace(__version__="8.5.2"))
    with refused(BackendError, got="TensorRT 8.5.2 cannot read"):
        import_tensorrt()


def test_unsupported_precisions(tensorrt_stand_in):
    old, new = tensorrt_of(tensorrt_stand_in("8.6.0")), tensorrt_of(tensorrt_stand_in("10.13.3"))
    assert "8.7) has no FP8, which needs 8.9" in str(unsupported(new, "fp8", device(8, 7)))
    assert unsupported(new, "fp8", device(8, 9)) is None
    early = tensorrt_of(tensorrt_stand_in("10.3.0"))
    assert "8.9, which came with 10.7" in str(unsupported(early, "fp8", device(8, 9)))
    assert "9.0, which came with 10.6" in str(unsupported(early, "fp8", device(9, 0)))
    assert unsupported(new, "bf16", device(8, 7)) is None
    assert "7.5) has no BF16" in str(unsupported(new, "bf16", device(7, 5)))
    assert "TensorRT 8.6.0 has no BF16" in str(unsupported(old, "bf16", device(8, 7)))
    assert all(unsupported(old, name, device(7, 2)) is None for name in ("fp32", "fp16", "int8"))


@pytest.mark.parametrize(
    ("version", "precision", "sm", "source"),
    [
        ((10, 3, 0), "fp16", None, "4723"),
        ((10, 3, 0), "int8", (8, 7), "4723"),
        ((10, 3, 0), "fp32", (8, 7), None),
        ((10, 4, 0), "fp32", None, "4742"),
        ((10, 7, 0), "fp16", None, "4333"),
        ((10, 13, 3), "fp16", (11, 0), "151"),
        ((10, 13, 3), "fp16", (8, 7), None),
        ((10, 16, 1), "bf16", (12, 0), "4837"),
        ((10, 16, 1), "int8", (12, 0), None),
        ((8, 6, 2), "fp16", (8, 7), None),
        ((11, 4, 1), "fp16", (8, 7), None),
    ],
)
def test_known_problems_name_their_source(version, precision, sm, source):
    problem = known_problem(version, precision, sm)
    assert problem is None if source is None else f"issue {source}" in str(problem)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_logger_keeps_what_matters(tensorrt_stand_in, version):
    module = tensorrt_stand_in(version)
    logger = collecting_logger(module)
    assert isinstance(logger, module.ILogger)
    assert module.called("ILogger.__init__") == [()]  # pybind11 wants it called
    for name in module.ILogger.Severity.__members__:
        logger.log(getattr(module.ILogger, name), name.lower())
    assert (logger.errors, logger.warnings) == (["internal_error", "error"], ["warning"])
