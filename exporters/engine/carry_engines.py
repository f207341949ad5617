"""Engines of a bundle that is exported again: those whose ONNX file stayed as it was move over."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    artefact_digest,
    bundle_engines,
    read_sidecar,
    sidecar_path,
)
from glpn_deploy.bundle.manifest import Manifest
from glpn_deploy.errors import EngineError


@dataclasses.dataclass(frozen=True)
class CarriedEngines:
    """What became of a bundle's engines.

    Attributes:
        kept: File names of those that moved over.
        dropped: File names of the others, with the reason of each.
    """

    kept: tuple[str, ...] = ()
    dropped: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{len(self.kept)} kept"] if self.kept else []
        parts += [f"dropped {name} ({reason})" for name, reason in self.dropped.items()]
        return "; ".join(parts)


def carry_engines(old: Path, new: Path, manifest: Manifest) -> CarriedEngines:
    """Brings the engines of the bundle at ``old`` into the one at ``new``.

    An engine is dropped where its ONNX file changed or is gone, or where its sidecar cannot be read. The
    plan itself is not looked at: it is checked whenever it is opened.

    Args:
        old: A bundle's folder, which stays as it is.
        new: The folder of the bundle that replaces it.
        manifest: The new bundle's manifest, with its digests.

    Raises:
        OSError: A file could not be copied.
    """
    digests = {artefact.file: artefact_digest(manifest, artefact) for artefact in manifest.artefacts}
    kept: list[str] = []
    dropped: dict[str, str] = {}
    for engine in bundle_engines(old):
        try:
            sidecar = read_sidecar(engine)
        except EngineError:
            dropped[engine.name] = "it has no sidecar that can be read"
            continue
        if sidecar.onnx not in digests:
            dropped[engine.name] = f"the new bundle has no {sidecar.onnx}"
        elif digests[sidecar.onnx] != sidecar.onnx_sha256:
            dropped[engine.name] = f"{sidecar.onnx} changed"
        else:
            (new / ENGINES).mkdir(exist_ok=True)
            for path in (engine, sidecar_path(engine)):
                link_or_copy(path, new / ENGINES / path.name)
            kept.append(engine.name)
    return CarriedEngines(tuple(kept), dropped)


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name, or copies it where the file system has no such names."""
    with contextlib.suppress(OSError):  # another disk, or a file system without links
        os.link(source, target)
        return
    shutil.copy2(source, target)
