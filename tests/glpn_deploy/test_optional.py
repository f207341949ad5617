"""Optional packages: the pip line works as this package was installed; errors say what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys

import pytest

from glpn_deploy.errors import MissingDependencyError
from glpn_deploy.optional import install_line, needs


class Installed:
    """Metadata of this package as pip keeps them."""

    requires = (
        "numpy>=1.24",
        'onnxruntime>=1.17; extra == "cpu"',
        'torch>=2.9; extra == "export"',
        'onnx>=1.16; extra == "export"',
        'typer<0.21,>=0.20; python_version < "3.11" and extra == "jetson"',
    )

    def __init__(self, origin: dict | None) -> None:
        self._origin = None if origin is None else json.dumps(origin)

    def read_text(self, name: str) -> str | None:
        return self._origin if name == "direct_url.json" else None


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """How this package was installed, in an environment that is activated."""
    environment = tmp_path / "environment"
    environment.mkdir()
    for name in ("python", "pip"):
        (environment / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    monkeypatch.setenv("PATH", str(environment))

    def call(origin):
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(origin))

    return call


@pytest.mark.parametrize("origin", [None, {"url": "file:///tmp/glpn.whl", "archive_info": {}}])
def test_without_a_clone_it_names_the_packages(origin, installed):
    installed(origin)
    assert install_line("cpu") == 'pip install "onnxruntime>=1.17"'
    assert install_line("cpu", "export") == 'pip install "onnx>=1.16" "onnxruntime>=1.17" "torch>=2.9"'
    assert install_line("jetson") == "pip install 'typer<0.21,>=0.20; python_version < \"3.11\"'"


def test_from_a_clone_it_names_the_clone(installed, tmp_path, monkeypatch):
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    installed({"url": clone.as_uri(), "dir_info": {"editable": True}})
    assert install_line("cpu", "export") == f'pip install -e "{clone}[cpu,export]"'
    monkeypatch.chdir(clone)
    assert install_line("cpu") == 'pip install -e ".[cpu]"'


def test_a_clone_that_is_gone_is_not_named(installed, tmp_path):
    installed({"url": (tmp_path / "gone").as_uri(), "dir_info": {"editable": True}})
    assert install_line("cpu") == 'pip install "onnxruntime>=1.17"'


def test_where_no_environment_is_activated_its_own_pip_is_named(installed, tmp_path, monkeypatch):
    installed(None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert install_line("cpu") == 'environment/pip install "onnxruntime>=1.17"'


def test_every_extra_is_one_of_the_project():
    extras = importlib.metadata.metadata("glpn-deploy").get_all("Provides-Extra")
    assert {"cpu", "gpu", "openvino", "tensorrt", "export", "train", "bench", "exr", "polygraphy"} <= {
        *extras
    }


def test_what_is_not_installed_is_named_with_its_line():
    with (
        pytest.raises(MissingDependencyError) as caught,
        needs("writing .exr", "exr", instead="save as .tif"),
    ):
        importlib.import_module("no_such_package.inside")
    assert caught.value.got == "writing .exr needs no_such_package, which is not installed"
    assert caught.value.fix == f"{install_line('exr')}, or save as .tif"


def test_what_is_installed_and_damaged_is_named_with_its_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", type(sys)("h5py"))
    with pytest.raises(MissingDependencyError) as caught, needs("reading it", "train"):
        from h5py import no_such_name  # noqa: F401
    assert f"h5py, which is installed as {importlib.metadata.version('h5py')}" in caught.value.got


def test_the_error_of_a_need_within_passes(installed):
    with (
        pytest.raises(MissingDependencyError, match="inner needs"),
        needs("outer", "cpu"),
        needs("inner", "exr"),
    ):
        importlib.import_module("no_such_package")
