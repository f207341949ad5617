"""Bundle, engine, ONNX file or checkpoint -> its runtime, image processor and scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_sidecar import ENGINES, bundle_engines, read_sidecar
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.bundle.source_files import SourceFiles
from glpn_deploy.checkpoints.card import Origin, read_card
from glpn_deploy.checkpoints.hub import HubOptions, has_weights, is_demo, is_hub_id, resolve_checkpoint
from glpn_deploy.errors import BackendError, BundleError, EngineError, InputError, UnavailableError
from glpn_deploy.images.processing import GLPNImageProcessor, load_processor
from glpn_deploy.options import Auto, Device
from glpn_deploy.runtimes import choose
from glpn_deploy.runtimes.base import Reason, Runtime
from glpn_deploy.runtimes.onnx_file.artefact_file import load_artefact
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx, open_onnx
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.options import BackendName, LoadOptions
from glpn_deploy.runtimes.registry import load_runtime, require_backend
from glpn_deploy.runtimes.remembered import recall

_ALLOW = "add --allow-fallback, or allow_fallback=True in Python"


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedSource:
    """A network, loaded.

    Attributes:
        runtime: Runs it.
        processor: Turns images into its input.
        max_depth: Its scale [m].
        origin: What is known of where it comes from.
        files: What it was loaded from; None where that is not known.
    """

    runtime: Runtime
    processor: GLPNImageProcessor
    max_depth: float
    origin: Origin = Origin()  # noqa: RUF009 - frozen
    files: SourceFiles | None = None


def load_source(source: str | Path, options: LoadOptions) -> LoadedSource:
    """Loads a source of any kind, and what comes nearest where that is asked for and it cannot be had.

    Raises:
        GlpnError: As `DepthEstimator.load`.
    """
    options = dataclasses.replace(options, backend=_implied_backend(options))
    try:
        return _load(source, options)
    except (BackendError, EngineError) as error:
        nearest = nearest_options(options)
        if not options.runtime.allow_fallback or nearest == options:
            raise
        loaded = _load(source, nearest)
        told = Reason(f"not as asked for: {error.got.rstrip('.')}", unmet=True)
        loaded.runtime.reasons = (told, *loaded.runtime.reasons)
        return loaded


def nearest_options(options: LoadOptions) -> LoadOptions:
    """The same with nothing asked for that a machine could lack."""
    device: Device = "cpu" if options.runtime.device == "cpu" else "auto"  # every machine has a CPU
    runtime = dataclasses.replace(
        options.runtime, device=device, provider="auto", compile="no", fallback_precision="fp32"
    )
    return dataclasses.replace(options, backend="auto", precision="auto", runtime=runtime)


def _load(source: str | Path, options: LoadOptions) -> LoadedSource:
    if is_demo(source) or is_hub_id(source):
        path = resolve_checkpoint(source, HubOptions(offline=options.offline))
    else:
        path = Path(source)
    bundle = (path / MANIFEST).is_file()
    onnx = None if bundle or has_weights(path) else find_onnx(path)
    if options.max_depth is not None and onnx is None:
        raise InputError(
            f"max_depth {options.max_depth:g} for {source}",
            expected="an .onnx file that does not say it; bundles and checkpoints do",
        )
    files: SourceFiles | None = None
    if bundle:
        files = SourceFiles(path, [path / MANIFEST])
        loaded = _from_bundle(Bundle.open(path), options)
    elif path.suffix == ".engine":
        loaded, files = _from_engine(path, options), SourceFiles(path)
    elif onnx is not None:
        files = SourceFiles(onnx, read_header(onnx).files)
        loaded = _from_onnx(onnx, options)
    elif path.is_dir() and not (path / "config.json").is_file():
        raise BundleError(
            f"the folder {path} is neither a bundle (no {MANIFEST}) nor a checkpoint (no config.json)",
            fix="make a bundle with glpn-export CHECKPOINT OUT",
        )
    elif not path.exists():
        loaded = _from_checkpoint(source, options)  # says what is missing
    else:
        loaded, files = _from_checkpoint(path, options), SourceFiles(path)
    return dataclasses.replace(loaded, files=files)


def _from_bundle(bundle: Bundle, asked: LoadOptions) -> LoadedSource:
    known = recall(bundle, asked)
    backend, options = asked.backend, asked.resolved(known.precision if known else "fp32")
    have = [artefact.precision for artefact in bundle.manifest.artefacts if artefact.kind == "onnx"]
    scale, origin = bundle.manifest.config.max_depth, Origin.of_manifest(bundle.manifest.source)
    engines: list[str] = []
    if backend in choose.ENGINE_BACKENDS or (backend == "auto" and bundle_engines(bundle.folder)):
        from glpn_deploy.runtimes.engine.engine_set import (  # most machines need neither
            engines_of,
            open_engines,
        )

        if backend != "auto":
            runtime: Runtime = open_engines(bundle.folder, options.precision, scale, options, backend=backend)
            return LoadedSource(runtime, bundle.processor, scale, origin)
        engines = [
            name for name in choose.ENGINE_BACKENDS if engines_of(bundle.folder, options.precision, name)
        ]
    found = choose.choices(backend, options.precision, have, options.device, "a bundle", engines)
    if not found:
        try:
            bundle.artefact(options.precision)
        except BundleError as error:
            raise UnavailableError(
                error.got, expected=error.expected, fix=f"{error.fix}; to take what is nearest, {_ALLOW}"
            ) from None
    found = known.first(found, options.precision) if known else found

    def open_choice(choice: choose.Choice) -> Runtime:
        if choice.backend in choose.ENGINE_BACKENDS:
            rest = [other for other in found if other.backend not in choose.ENGINE_BACKENDS]
            fallback = (lambda: choose.load(rest, open_choice, False)) if rest else None
            return open_engines(bundle.folder, options.precision, scale, options, fallback, choice.backend)
        return _as_asked(load_artefact(bundle, bundle.artefact(choice.file), choice.backend, options), asked)

    return LoadedSource(choose.load(found, open_choice, asked.measure), bundle.processor, scale, origin)


def _from_engine(path: Path, asked: LoadOptions) -> LoadedSource:
    sidecar = read_sidecar(path)
    if asked.precision not in ("auto", sidecar.precision):
        raise _lacking(asked.precision, str(path), [sidecar.precision])
    _only(sidecar.backend, asked.backend, "an engine of its kind" if sidecar.targets else "an engine")
    folder = path.parent.parent
    inside = path.parent.name == ENGINES and (folder / MANIFEST).is_file()
    processor = Bundle.open(folder).processor if inside else GLPNImageProcessor()
    from glpn_deploy.runtimes.engine.engine_set import load_engine  # as above; says what is missing

    return LoadedSource(load_engine(path, asked.resolved()), processor, sidecar.max_depth)


def _from_onnx(path: Path, asked: LoadOptions) -> LoadedSource:
    source = open_onnx(path, asked.max_depth)
    own = source.header.precision
    options = asked.resolved(own)
    found = choose.choices(asked.backend, options.precision, [own], options.device, "an .onnx file")
    if not found:
        raise _lacking(asked.precision, str(path), [own])

    def open_choice(choice: choose.Choice) -> Runtime:
        runtime = _as_asked(load_runtime(choice.backend, path, options), asked)
        runtime.reasons += source.reasons
        return runtime

    return LoadedSource(choose.load(found, open_choice, asked.measure), source.processor, source.max_depth)


def _from_checkpoint(source: str | Path, asked: LoadOptions) -> LoadedSource:
    if asked.precision == "int8+bf16":  # else refused for the backend that it implies
        raise _lacking(asked.precision, f"the checkpoint {source}", ["fp32", "fp16", "bf16"])
    name = _only("torch", asked.backend, "a checkpoint")
    require_backend(name)
    path = resolve_checkpoint(source, HubOptions(offline=asked.offline))
    runtime = load_runtime(name, path, asked.resolved())
    assert runtime.max_depth is not None  # a checkpoint's config always says
    return LoadedSource(runtime, load_processor(path), runtime.max_depth, read_card(path))


def _as_asked(runtime: Runtime, asked: LoadOptions) -> Runtime:
    """The runtime, where it computes in the precision that was asked for, or need not.

    Raises:
        UnavailableError: It computes in another one.
    """
    unmet = [reason.text for reason in runtime.reasons if reason.unmet]
    if not unmet or asked.precision == "auto" or asked.runtime.allow_fallback:
        return runtime
    runtime.close()
    raise UnavailableError(
        f"precision {asked.precision} was asked for, and cannot be had on {runtime.backend}: "
        f"{'; '.join(unmet)}",
        fix=f"ask for another precision; to take what is nearest, {_ALLOW}",
    )


def _lacking(precision: str, source: str, have: Sequence[str]) -> UnavailableError:
    """What is said where a source has no such precision."""
    return UnavailableError(
        f"precision {precision} was asked for, and {source} has none",
        expected=f"one of {', '.join(have)}",
        fix=f"to take what is nearest, {_ALLOW}",
    )


def _implied_backend(options: LoadOptions) -> Auto | BackendName:
    """The backend asked for, or that which alone knows an option that was."""
    asked, runtime = options.backend, options.resolved()
    fallback = runtime.fallback_precision
    if runtime.provider != "auto":
        return _only("onnxruntime", asked, f"the provider {runtime.provider}")
    if runtime.compile != "no":
        return _only("torch", asked, "torch.compile")
    if fallback != "fp32":
        if runtime.precision != "int8":
            got = f"fallback_precision {fallback} with precision {runtime.precision}"
            raise InputError(got, expected="int8")
        return _only("openvino", asked, f"{fallback} beside INT8")
    return asked


def _only(name: BackendName, asked: str, what: str) -> BackendName:
    """The backend that runs this kind of source."""
    if asked not in ("auto", name):
        raise InputError(f"backend {asked!r} for {what}", expected=f"auto or {name}")
    return name
