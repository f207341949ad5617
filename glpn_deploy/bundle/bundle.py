"""The deployable folder: manifest, HF's configs, artefacts and goldens, nothing read unchecked."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.bundle.manifest import MANIFEST, RE_EXPORT, Artefact, FileEntry, Golden, Manifest
from glpn_deploy.errors import BundleError
from glpn_deploy.images.npy import read_npy
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.reading import check_regular, read_text


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle. Every file is checked against its digest before its path is given out.

    Attributes:
        folder: Where it stands.
        manifest: Its manifest.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Opens a bundle folder; reads the manifest only.

        Raises:
            BundleError: No bundle, or one whose manifest is damaged or points outside the folder.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            text = read_text(path)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(
                f"{folder} is not a bundle: it has no {MANIFEST}",
                expected="a folder that glpn-export made",
                fix="make one with glpn-export CHECKPOINT OUT",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read ({error})", fix=RE_EXPORT) from None
        bundle = cls(folder, Manifest.from_json(text, str(path)))
        for name in bundle._named_files():
            bundle._inside(name)
        return bundle

    def _named_files(self) -> set[str]:
        manifest = self.manifest
        names = set(manifest.files)
        for artefact in manifest.artefacts:
            names.update((artefact.file, *artefact.data))
        for golden in manifest.goldens:
            names.update((golden.image, golden.depth))
        return names

    def _inside(self, name: str) -> Path:
        pure = PurePosixPath(name)
        path = self.folder / pure
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):  # a NUL, half a character, links in a circle
            inside = False
        if pure.is_absolute() or ".." in pure.parts or not inside:
            raise BundleError(
                f"{self.folder / MANIFEST} names {name!r}, which lies outside the bundle",
                expected="files within its own folder",
                fix="do not use this bundle; " + RE_EXPORT,
            )
        return path

    def path(self, name: str) -> Path:
        """The path of one of the bundle's files, once its digest has been checked.

        Raises:
            BundleError: The file is not the bundle's, is missing, or is not the one that was written.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder / MANIFEST} has no digest for {name!r}", fix=RE_EXPORT)
        path = self._inside(name)
        try:
            size = check_regular(path)
            digest = file_digest(path) if size == entry["bytes"] else ""
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror})", fix=RE_EXPORT) from None
        if size != entry["bytes"]:
            raise BundleError(
                f"{path} has {size} bytes", expected=f"{entry['bytes']}, as exported", fix=RE_EXPORT
            )
        if digest != entry["sha256"]:
            raise BundleError(
                f"the content of {path} changed since the export (SHA-256 differs)", fix=RE_EXPORT
            )
        return path

    def check_files(self) -> int:
        """Checks the digest of every file and returns their number.

        Raises:
            BundleError: At the first file that is missing or changed.
        """
        with progress.step("digests", len(self.manifest.files)) as step:
            for name in sorted(self.manifest.files):
                self.path(name)
                step.advance(name)
            step.finish(f"{len(self.manifest.files)} files unchanged")
        return len(self.manifest.files)

    def artefact(self, precision: str) -> Artefact:
        """The artefact of a precision.

        Raises:
            BundleError: The bundle has none.
        """
        for artefact in self.manifest.artefacts:
            if artefact.precision == precision:
                return artefact
        have = ", ".join(artefact.precision for artefact in self.manifest.artefacts)
        raise BundleError(
            f"{self.folder} has no {precision} artefact", expected=f"one of those it has: {have or 'none'}"
        )

    def artefact_path(self, artefact: Artefact) -> Path:
        """The checked path of an artefact, its data files checked as well."""
        for name in artefact.data:
            self.path(name)
        return self.path(artefact.file)

    @property
    def processor(self) -> GLPNImageProcessor:
        """The image processor the bundle was made with."""
        processor: GLPNImageProcessor = GLPNImageProcessor.from_dict(self.manifest.preprocessing)
        return processor

    def golden_depth(self, golden: Golden) -> NDArray[np.float32]:
        """The reference's raw depth for a golden: ``(H, W)`` float32, metres.

        Raises:
            BundleError: The file is not the one that was written, or holds something else.
        """
        path = self.path(golden.depth)
        try:
            depth: NDArray[np.float32] = read_npy(path)
        except (ValueError, OSError) as error:
            raise BundleError(f"{path} is not a depth array ({error})", fix=RE_EXPORT) from None
        if depth.dtype != np.float32 or depth.ndim != 2:
            raise BundleError(
                f"{path} is not a depth array", expected="float32 (height, width)", fix=RE_EXPORT
            )
        return depth


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Takes the digests of all files in ``folder`` and writes its manifest.json.

    Returns:
        The manifest as written, digests included.
    """
    files: dict[str, FileEntry] = {
        path.relative_to(folder).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = dataclasses.replace(manifest, files=files)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
