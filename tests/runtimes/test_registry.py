"""Backends by name: imported on use, and the line that mends a missing or broken one."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from glpn_deploy.doctor.machine import examine
from glpn_deploy.errors import BackendError, GlpnError, InputError, MissingDependencyError
from glpn_deploy.optional import install_line
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.choose import choices
from glpn_deploy.runtimes.registry import BACKENDS, Backend, load_runtime, require_backend
from glpn_deploy.runtimes.rt_null import NullRuntime
from tests.refusals import refused


def test_every_backend_has_a_module_and_loads(tiny_onnx, tiny_checkpoint):
    sources = {"onnx": tiny_onnx, "checkpoint": tiny_checkpoint, "nothing": None}
    for name, backend in BACKENDS.items():
        if backend.runs == "engine":  # needs a GPU: tests/gpu
            assert importlib.import_module(f"glpn_deploy.runtimes.rt_{name}").load
            continue
        with load_runtime(name, sources[backend.runs], RuntimeOptions(device="cpu")) as runtime:
            assert isinstance(runtime, Runtime)
            assert runtime.backend == name


@pytest.mark.parametrize("name", ["tensorflow", "", "rt_null", "../null"])
def test_unknown_name(name):
    with refused(InputError, expected="one of torch, onnxruntime, openvino, tensorrt, tensorrt_rtx, null"):
        load_runtime(name, None, RuntimeOptions())


@pytest.mark.parametrize(
    ("name", "extra"),
    [("onnxruntime", "cpu"), ("openvino", "openvino"), ("tensorrt", "tensorrt"), ("torch", "export")],
)
def test_missing_package_names_the_pip_line(name, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(MissingDependencyError) as caught:
        require_backend(name)
    assert caught.value.fix == install_line(extra)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcublas.so.12: cannot open"),
        AttributeError("no SessionOptions"),
        TypeError("expected str, bytes or os.PathLike object, not NoneType"),
        RuntimeError("numpy is of another version"),
    ],
)
def test_broken_package_says_so(error, monkeypatch):
    def broken(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    with refused(
        BackendError,
        got="cannot be used, because onnxruntime is installed but does not import",
        fix="reinstall it",
    ):
        load_runtime("onnxruntime", None, RuntimeOptions())


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_no_artefact(name):
    with pytest.raises(GlpnError, match=f"the {name} backend was given no"):
        load_runtime(name, None, RuntimeOptions())


def test_the_registry_imports_no_backend():
    program = (
        "import sys, glpn_deploy.runtimes.registry\n"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'onnx', 'tensorrt'}\n"
        "assert not heavy & {*sys.modules}\n"
        "import glpn_deploy.runtimes.rt_tensorrt, glpn_deploy.runtimes.engine.engine_set\n"
        "assert not heavy & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_backend_is_a_file_and_a_line(monkeypatch):
    """CONTRIBUTING's example: chosen, loaded and found by glpn-doctor without another line anywhere."""
    file = ModuleType("glpn_deploy.runtimes.rt_example")
    vars(file).update(
        load=lambda path, options: NullRuntime(precision=options.precision), installed=lambda: "1.0, CPU"
    )
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setitem(BACKENDS, "example", Backend("example", "json", "pip install example", "onnx"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package if package == "json" else None)
    (choice,) = choices("auto", "fp32", ["fp32"], "auto", "a bundle")
    assert choice.backend == "example"
    assert load_runtime("example", None, RuntimeOptions(precision="int8")).precision == "int8"
    (finding,) = (finding for finding in examine() if finding.name == "example")
    assert (finding.status, finding.detail) == ("ok", "1.0, CPU")


@pytest.mark.parametrize("name", [name for name, backend in BACKENDS.items() if backend.runs != "engine"])
def test_a_backend_says_what_is_installed(name):
    if BACKENDS[name].package is not None:
        assert importlib.import_module(f"glpn_deploy.runtimes.rt_{name}").installed()[0].isdigit()


def test_a_package_of_which_only_a_folder_is_left(tiny_onnx, tmp_path):
    """A botched uninstall leaves a namespace without a file: `Path(None)`; auto takes another backend."""
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import importlib.machinery, importlib.util, types\n"
        "module = types.ModuleType('onnxruntime'); module.__file__ = None\n"
        "module.__spec__ = importlib.machinery.ModuleSpec('onnxruntime', None)\n"
        "sys.modules['onnxruntime'] = module\n"
        "from glpn_deploy import DepthEstimator\n"
        "from glpn_deploy.errors import BackendError\n"
        "from glpn_deploy.runtimes import choose\n"
        "choose.cpu_flags = lambda: frozenset({'avx2'})\n"  # ONNX Runtime's turn
        f"with DepthEstimator.load({str(tiny_onnx)!r}) as estimator:\n"
        "    print(estimator.runtime.backend, estimator.runtime.why)\n"
        "try:\n"
        f"    DepthEstimator.load({str(tiny_onnx)!r}, 'onnxruntime')\n"
        "except BackendError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    assert first.startswith("openvino ")
    for line in (first, second):
        assert "cannot be used, because onnxruntime is installed but does not import (TypeError" in line
