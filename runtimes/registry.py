"""Backends by name; a module is imported when its backend is asked for."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glpn_deploy.bundle.identity import HeldFiles
from glpn_deploy.errors import BackendError, BundleError, InputError, MissingDependencyError
from glpn_deploy.optional import install_line, installed_version

if TYPE_CHECKING:
    from glpn_deploy.runtimes.base import Runtime
    from glpn_deploy.runtimes.options import RuntimeOptions


_DISTRIBUTIONS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}  # of one package; one of them at a time


@dataclasses.dataclass(frozen=True)
class Backend:
    """What is known of a backend without importing it.

    Attributes:
        name: The public name.
        package: The module it needs, or None.
        extra: The extra of this package that brings it.
        runs: What it is given: an ``.onnx`` file, a checkpoint, an ``.engine`` file, or nothing.
    """

    name: str
    package: str | None
    extra: str
    runs: Literal["onnx", "checkpoint", "engine", "nothing"]

    @property
    def install(self) -> str:
        """The pip line that brings its package."""
        return install_line(self.extra)

    @property
    def reinstall(self) -> str:
        """The lines that mend an installation of its package that is broken."""
        names = _DISTRIBUTIONS.get(self.name, (self.package or self.name,))
        return f"pip uninstall -y {' '.join(names)}, then {self.install}"

    def distributions(self) -> list[str]:
        """What of it is installed, with its version."""
        names = _DISTRIBUTIONS.get(self.name, (self.package,) if self.package else ())
        return [f"{name} {version}" for name in names if (version := installed_version(name))]

    def doubled(self) -> str:
        """What is wrong where distributions that exclude each other are both installed; else empty.

        They write the same files: uninstalling one of them leaves the other broken.
        """
        found = self.distributions()
        return f"{' and '.join(found)} are both installed and overwrite each other" if len(found) > 1 else ""

    def missing(self) -> str | None:
        """The pip line to run, or None where the package is installed."""
        try:
            found = self.package is None or importlib.util.find_spec(self.package) is not None
        except (ImportError, ValueError):  # ValueError: a module that something else put there
            found = False
        return None if found else self.install


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("torch", "torch", "export", "checkpoint"),
        Backend("onnxruntime", "onnxruntime", "cpu", "onnx"),
        Backend("openvino", "openvino", "openvino", "onnx"),
        Backend("tensorrt", "tensorrt", "tensorrt", "engine"),
        Backend("tensorrt_rtx", "tensorrt_rtx_bindings", "rtx", "engine"),
        Backend("null", None, "", "nothing"),
    )
}


def require_backend(name: str) -> Backend:
    """Looks a backend up.

    Raises:
        InputError: There is no backend of that name.
        MissingDependencyError: Its package is not installed.
    """
    if name not in BACKENDS:
        raise InputError(f"there is no backend {name!r}", expected=f"one of {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    install = backend.missing()
    if install is not None:
        raise MissingDependencyError(
            f"the {name} backend needs {backend.package}, which is not installed", fix=install
        )
    return backend


def load_runtime(name: str, path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an artefact on a backend.

    Args:
        name: The backend's public name.
        path: The ``.onnx`` file, checkpoint or ``.engine`` file that the backend runs.
        options: Device, precision and threads.

    Raises:
        InputError: There is no such backend.
        MissingDependencyError: Its package is not installed.
        BackendError: Its package is installed but broken.
        GlpnError: It could not load the artefact.
    """
    backend = require_backend(name)
    try:
        module = importlib.import_module(f"glpn_deploy.runtimes.rt_{name}")
    except MissingDependencyError:
        raise
    except Exception as error:  # a half-removed package, a missing library
        raise BackendError(
            f"the {name} backend cannot be used, because {backend.package} is installed but does not import "
            f"({type(error).__name__}: {error})",
            fix=f"reinstall it: {backend.reinstall}",
        ) from error
    if backend.runs != "onnx" or path is None:
        return module.load(path, options)  # type: ignore[no-any-return]
    from glpn_deploy.runtimes.onnx_file.header import read_header  # numpy, which no --help needs

    held = HeldFiles(read_header(path).files)
    runtime: Runtime = module.load(path, options)
    try:
        held.require_unchanged()  # header, digest and network were read one after the other
    except BundleError:
        runtime.close()
        raise
    return runtime
