"""TensorRT for RTX, found and asked; what the compiler itself says is in tests/exporters/engine."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
import types

import pytest

from glpn_deploy.errors import BackendError, InputError, MissingDependencyError
from glpn_deploy.gpu import tensorrt_rtx as module
from glpn_deploy.gpu.tensorrt_rtx import (
    DEFAULT_TARGETS,
    TARGETS,
    default_targets,
    import_tensorrt_rtx,
    invalidity,
    parse_targets,
    rtx_of,
    unsupported_targets,
)


def test_targets_as_they_are_typed():
    assert parse_targets("120,86, 8.9,86") == ("8.6", "8.9", "12.0")
    for text in ("", "90", "8", "sm86", "86;89", "86,,89"):
        with pytest.raises(InputError):
            parse_targets(text)


def test_what_each_precision_is_built_for():
    assert default_targets("fp16") == default_targets("int8") == DEFAULT_TARGETS
    assert default_targets("fp8") == ("8.9", "12.0")
    assert unsupported_targets("fp16", TARGETS) is None
    for precision in ("fp32", "bf16", "int8"):
        assert unsupported_targets(precision, DEFAULT_TARGETS) is None
        assert "7.5" in (unsupported_targets(precision, ("7.5", "8.6")) or "")


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [("linux", "x86_64", "pip install"), ("linux", "aarch64", "no packages")],
)
def test_not_installed(monkeypatch, system, machine, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MissingDependencyError) as caught:
        import_tensorrt_rtx()
    assert words in caught.value.fix


def test_installed_and_broken(monkeypatch):
    def broken(name):
        raise OSError("libtensorrt_rtx.so.1: cannot open shared object file\nmore")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BackendError) as caught:
        import_tensorrt_rtx()
    assert "\n" not in caught.value.got


def test_versions():
    trt = rtx_of(types.SimpleNamespace(__version__="1.7.1.116"))
    assert (trt.version, trt.title) == ((1, 7, 1), "TensorRT for RTX 1.7.1.116")
    assert trt.strongly_typed
    with pytest.raises(BackendError):
        rtx_of(types.SimpleNamespace())


def test_headers_of_other_products_are_told_for_real():
    """NVIDIA's runtime reads headers without a GPU; what it would ask a GPU is not held against them."""
    trt = pytest.importorskip(module.PACKAGE, reason="TensorRT for RTX is not installed")
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert invalidity(trt, runtime, b"ftrt of another product" * 9) == (
        "it is no engine of this product, or is damaged",
    )
