"""A bundle that is exported again: engines of an unchanged ONNX file, and files of the user, move over."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    artefact_digest,
    bundle_engines,
    read_sidecar,
    sidecar_path,
)
from glpn_deploy.bundle.manifest import MANIFEST, Manifest
from glpn_deploy.errors import EngineError

_KEPT = ".kept"


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


def carry_files(old: Path, new: Path) -> tuple[str, ...]:
    """Brings the files that the manifest at ``old`` does not list into the bundle at ``new``.

    Engines are left to `carry_engines`. Where the new bundle has a file of that name, the old one is
    called ``<name>.kept``. Links stay links.

    Args:
        old: A bundle's folder, which stays as it is; ``depth/`` that glpn-predict wrote there, say, is not
            the bundle's.

    Returns:
        Their names within ``new``.
    """
    carried = []
    for source in _strangers(old):
        target = new / source.relative_to(old)
        while os.path.lexists(target):
            target = target.with_name(target.name + _KEPT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            link_or_copy(source, target)
        carried.append(target.relative_to(new).as_posix())
    return tuple(carried)


def _strangers(folder: Path) -> Iterator[Path]:
    engines = bundle_engines(folder)
    own = {folder / MANIFEST, *(folder / name for name in _listed(folder))}
    own.update((*engines, *map(sidecar_path, engines)))
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (path for name in sorted((*files, *links)) if (path := Path(place, name)) not in own)


def _listed(folder: Path) -> list[str]:
    """The names in a manifest that may be damaged: it is about to be replaced."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return list(files) if isinstance(files, dict) else []
