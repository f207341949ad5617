"""A bundle's ONNX artefact, given out once all that speaks of it has been found to agree."""

from __future__ import annotations

import json
from pathlib import Path

from glpn_deploy.bundle.bundle import Bundle, require_same
from glpn_deploy.bundle.manifest import MANIFEST, RE_EXPORT, Artefact
from glpn_deploy.errors import BundleError, ConfigError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.runtimes.base import Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import read_header, read_metadata
from glpn_deploy.runtimes.registry import load_runtime

KIND = "onnx"


def require_onnx(bundle: Bundle, artefact: Artefact) -> None:
    """Refuses an artefact of a kind that this version does not know."""
    if artefact.kind != KIND:
        raise BundleError(
            f"{bundle.folder / MANIFEST} gives {artefact.file} the unknown kind {artefact.kind!r}",
            expected=KIND,
            fix="upgrade with pip install -U glpn-deploy",
        )


def artefact_path(bundle: Bundle, artefact: Artefact) -> Path:
    """The path of an artefact's ONNX file; `load_artefact` is what loads it.

    The digests of the file and of its data have been checked; the data that its graph names are those that
    the manifest lists; and the file says the same of its network as the manifest.

    Raises:
        BundleError: A file is missing or changed, or two of them contradict each other.
    """
    require_onnx(bundle, artefact)
    listed = {bundle.path(name).resolve() for name in artefact.data}
    path = bundle.path(artefact.file)
    header = read_header(path)
    named = {file.resolve() for file in header.files[1:]}
    if named != listed:
        raise BundleError(
            f"{path} keeps weights in {_names(named)}",
            expected=f"{_names(listed)}, as {bundle.folder / MANIFEST} lists",
            fix=f"do not use this bundle; {RE_EXPORT}",
        )
    config = bundle.manifest.config
    try:
        own = GLPNConfig.from_dict(json.loads(read_metadata(path).get("glpn_config", "null")))
    except (ValueError, RecursionError, ConfigError) as error:
        raise BundleError(
            f"{path} does not say what network it is ({error})",
            expected="the config in its metadata, as glpn-export writes it",
            fix=RE_EXPORT,
        ) from None
    require_same(path, own.network(), config.network(), bundle.folder)
    found: dict[str, object] = {
        "max_depth": header.max_depth,
        "opset": header.opset,
        "nodes": header.nodes,
        "io": header.io,
    }
    io = "fp16" if artefact.io == "half" else artefact.io  # as bundles of before 0.2 say it
    stated: dict[str, object] = {
        "max_depth": config.max_depth,
        "opset": artefact.opset,
        "nodes": artefact.nodes,
        "io": io,
    }
    if artefact.precision == "fp32":
        found, stated = {**found, **header.tensors}, {**stated, **bundle.manifest.tensors}
    require_same(path, found, stated, bundle.folder)
    return path


def load_artefact(bundle: Bundle, artefact: Artefact, backend: str, options: RuntimeOptions) -> Runtime:
    """Loads an artefact: what `artefact_path` checked is what runs, whatever happens to the folder meanwhile.

    Raises:
        BundleError: As `artefact_path`; or a file was replaced between the check and the loading.
        GlpnError: As `load_runtime`.
    """
    runtime = load_runtime(backend, artefact_path(bundle, artefact), options)
    try:
        bundle.require_unchanged()
    except BundleError:
        runtime.close()
        raise
    return runtime


def _names(files: set[Path]) -> str:
    return ", ".join(sorted(file.name for file in files)) or "no other file"
