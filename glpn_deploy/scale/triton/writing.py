"""A bundle -> a Triton model repository."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import glpn_deploy
from glpn_deploy import progress
from glpn_deploy.atomic import replace_folder, staging_folder
from glpn_deploy.bundle.bundle import CONFIGS, Bundle
from glpn_deploy.bundle.engine_sidecar import check_bundle, read_plan, read_sidecar
from glpn_deploy.bundle.engine_trust import require_trusted
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.errors import BundleError, EngineError
from glpn_deploy.optional import needs
from glpn_deploy.reading import file_digest
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.ort_tensorrt import provider_options
from glpn_deploy.scale.triton import model_configs
from glpn_deploy.scale.triton.config_text import to_text
from glpn_deploy.scale.triton.model_configs import ANY, TYPES, Config, Network
from glpn_deploy.scale.triton.names import BUNDLE, NET
from glpn_deploy.scale.triton.options import ServeOptions
from glpn_deploy.scale.triton.repository import REPOSITORY, Repository, is_repository, list_files

_VERSION = "1"
_CODE = """\
# glpn-deploy has to be installed for the Python that the server starts: see its docs/serving.md.
from glpn_deploy.scale.triton.backend.{name} import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""


def write_repository(bundle: Bundle, target: Path, options: ServeOptions = ServeOptions()) -> Repository:
    """Writes a Triton model repository; what stood there is replaced whole or not at all.

    Args:
        bundle: An opened bundle.
        target: The repository's folder: new, empty, or a repository to replace.
        options: Which models, and how they run.

    Raises:
        BundleError: The bundle is damaged or has no such artefact, or the folder has something else in it.
        EngineError: The engine cannot be used.
        ConfigError: glpn_raw cannot do what the bundle's image processor does.
        WriteError: A file cannot be written.
    """
    place = target.resolve()
    if place.exists() and not is_repository(place) and (not place.is_dir() or any(place.iterdir())):
        raise BundleError(
            f"{target} has something else in it",
            expected="a new or empty folder, or a repository to replace",
            fix="choose another --write",
        )
    with progress.step("write repository") as step, staging_folder(place) as folder:
        staged = folder / place.name
        staged.mkdir()
        repository = _Writer(bundle, staged, options).write()
        (staged / REPOSITORY).write_text(repository.to_json(), encoding="utf-8")
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        replace_folder(staged, place)
        step.finish(f"{target}: {', '.join(repository.models)}")
    return repository


class _Writer:
    """Writes the models of one repository.

    Args:
        bundle: What they are made from.
        folder: Where they are written.
        options: What was asked for.
    """

    def __init__(self, bundle: Bundle, folder: Path, options: ServeOptions) -> None:
        self._bundle, self._folder = bundle, folder
        self._artefact = bundle.artefact(options.precision)
        self._onnx = artefact_path(bundle, self._artefact)
        self._scale = bundle.manifest.config.max_depth
        self._plan = b""
        self._about = {
            "file": self._artefact.file,
            "precision": self._artefact.precision,
            "sha256": bundle.manifest.files[self._artefact.file]["sha256"],
        }
        self._net = self._graph(options) if options.engine is None else self._engine(options.engine, options)
        if self._net.io not in TYPES:
            raise BundleError(
                f"{self._about['file']} takes and gives {self._net.io}",
                expected=" or ".join(TYPES),
                fix="upgrade with pip install -U glpn-deploy",
            )
        images = options.images
        compiled = options.engine is not None or options.tensorrt_cache is not None
        if compiled and images.input_size is None and images.max_side is None:
            images = dataclasses.replace(images, input_size=self._net.warm_up[1:])
        self._options = dataclasses.replace(options, images=images)

    def write(self) -> Repository:
        """Writes them all."""
        options, bundle = self._options, self._bundle
        if "glpn" in options.models:
            self._write_ensemble()
        if "glpn_raw" in options.models:
            self._write_raw()
        if "glpn_python" in options.models:
            self._write_python()
        return Repository(
            bundle=bundle.manifest.name,
            manifest_sha256=file_digest(bundle.folder / MANIFEST),
            source=bundle.manifest.source,
            network=self._about,
            models=tuple(sorted(path.name for path in self._folder.iterdir())),
            options=dataclasses.asdict(options),
            tools={"glpn-deploy": glpn_deploy.__version__},
            files=list_files(self._folder),
        )

    def _graph(self, options: ServeOptions) -> Network:
        """The artefact's ONNX file, which ONNX Runtime runs."""
        spec = read_header(self._onnx).spec
        return Network(
            file=self._artefact.file,
            io=self._artefact.io,
            sides=(spec.height or ANY, spec.width or ANY),
            batch=spec.batch or options.batch,
            warm_up=(1, spec.height or options.shape[0], spec.width or options.shape[1]),
            accelerator=self._accelerator(options, NET),
        )

    def _accelerator(self, options: ServeOptions, model: str) -> dict[str, str]:
        """What ONNX Runtime is told where TensorRT shall compile; every model has its folder of engines."""
        if options.tensorrt_cache is None:
            return {}
        engines = (
            options.tensorrt_cache / f"{self._bundle.manifest.name}-{model}-{self._about['sha256'][:16]}"
        )
        profile = model_configs.profile(options) if model == NET else None
        told = provider_options(read_header(self._onnx), options.precision, profile, engines, None)
        return model_configs.accelerator(told)

    def _engine(self, engine: Path, options: ServeOptions) -> Network:
        """A TensorRT engine of the bundle, which TensorRT runs; its plan is read, and not opened.

        Raises:
            EngineError: It is of another bundle, not trusted, damaged, or not what Triton's backend runs.
        """
        sidecar = read_sidecar(engine)
        check_bundle(engine, sidecar, self._bundle.manifest)
        require_trusted(engine, sidecar, options.trust_engines)
        if sidecar.backend != "tensorrt" or sidecar.stripped:
            raise EngineError(
                f"{engine.name} is an engine of {sidecar.backend}{', without weights' * sidecar.stripped}",
                expected="one of tensorrt with its weights, which is what Triton's backend runs",
                fix="build one with glpn-build",
            )
        self._plan = read_plan(engine, sidecar)
        self._about |= {
            "file": sidecar.engine,
            "precision": sidecar.precision,
            "sha256": sidecar.sha256,
            "tensorrt": sidecar.tensorrt,
            "gpu": sidecar.gpu,
        }
        low, best, high = (getattr(sidecar.profiles[0], end) for end in ("min", "opt", "max"))
        return Network(
            file="model.plan",
            io=sidecar.io,
            sides=high[1:] if low[1:] == high[1:] else (ANY, ANY),
            batch=high[0],
            warm_up=best,
        )

    def _write_ensemble(self) -> None:
        net, options = self._net, self._options
        self._model(model_configs.ensemble(self._scale), {"README": b"An ensemble: see config.pbtxt.\n"})
        code = {"model.py": _code("preprocess")}
        self._copy_settings(self._model(model_configs.preprocess(net, options), code))
        self._model(model_configs.postprocess(net, options), {"model.py": _code("postprocess")})
        config = model_configs.network(net, options, self._scale)
        if self._plan:
            self._model(config, {net.file: self._plan})
        else:
            self._copy_network(self._model(config, {}))

    def _write_raw(self) -> None:
        with needs("writing glpn_raw", "export", instead="leave it out: --models glpn,glpn_python"):
            from glpn_deploy.scale.triton.raw_graph import to_raw
        options = self._options
        version = self._folder / "glpn_raw" / _VERSION
        version.mkdir(parents=True)
        gives = to_raw(self._onnx, version / "model.onnx", self._bundle.processor, options.shape)
        net = Network(
            file="model.onnx",
            io="uint8",
            sides=options.shape,
            batch=options.batch,
            warm_up=(1, *options.shape),
            accelerator=self._accelerator(options, "glpn_raw"),
        )
        self._model(model_configs.raw(net, options, self._scale, gives), {})

    def _write_python(self) -> None:
        version = self._model(
            model_configs.estimator(self._options, self._scale), {"model.py": _code("estimator")}
        )
        self._copy_network(self._copy_settings(version))

    def _copy_settings(self, version: Path) -> Path:
        """Makes the bundle's folder beside a model.py, with all but its artefacts and goldens."""
        place = version / BUNDLE
        place.mkdir()
        shutil.copyfile(self._bundle.folder / MANIFEST, place / MANIFEST)
        for name in CONFIGS:
            shutil.copyfile(self._bundle.path(name), place / name)
        return place

    def _copy_network(self, folder: Path) -> None:
        for name in (self._artefact.file, *self._artefact.data):
            shutil.copyfile(self._bundle.path(name), folder / name)

    def _model(self, config: Config, files: dict[str, bytes]) -> Path:
        """Writes a model's config and files; gives its version's folder."""
        version = self._folder / str(config["name"]) / _VERSION
        version.mkdir(parents=True, exist_ok=True)
        (version.parent / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
        for name, content in files.items():
            (version / name).write_bytes(content)
        return version


def _code(name: str) -> bytes:
    return _CODE.format(name=name).encode()
