"""The deployable folder: manifest, HF's configs, artefacts and goldens, nothing read unchecked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy import progress
from glpn_deploy.bundle.identity import HeldFiles, identity
from glpn_deploy.bundle.manifest import MANIFEST, RE_EXPORT, Artefact, FileEntry, Golden, Manifest
from glpn_deploy.errors import BundleError, ConfigError
from glpn_deploy.images.npy import read_npy
from glpn_deploy.images.processing import CONFIG_NAME, GLPNImageProcessor
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.reading import check_regular, content_digest, file_digest, read_text

CONFIG = "config.json"
CONFIGS = (CONFIG, CONFIG_NAME)
"""HF's own files in a bundle, which say the same as its manifest."""
_LEAST_FACTOR = 1 / 65535


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle. Every file is checked against its digest before its path is given out.

    Attributes:
        held: The files that were read, as they were.
    """

    folder: Path
    manifest: Manifest
    held: HeldFiles = dataclasses.field(default_factory=HeldFiles, compare=False, repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Opens a bundle folder; reads the manifest and HF's two configs, which must say the same.

        Raises:
            BundleError: No bundle, or one whose manifest is damaged, contradicts the configs or points
                outside the folder.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        held = HeldFiles()
        try:
            held.hold(path, identity(path))
            text = read_text(path)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(
                f"{folder} is not a bundle: it has no {MANIFEST}",
                expected="a folder that glpn-export made",
                fix=f"give the folder itself: {folder.parent}"
                if (folder.parent / MANIFEST).is_file()
                else "make one with glpn-export CHECKPOINT OUT",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read ({error})", fix=RE_EXPORT) from None
        bundle = cls(folder, Manifest.from_json(text, str(path)), held)
        for name in bundle._named_files():
            bundle._inside(name)
        bundle._check_configs()
        return bundle

    def _check_configs(self) -> None:
        """Refuses configs that say something else than the manifest, which is what is used."""
        try:
            config = GLPNConfig.from_json_file(self.folder / CONFIG)
            processor = GLPNImageProcessor.from_json_file(self.folder / CONFIG_NAME)
            pairs = (
                (CONFIG, self.manifest.config.network(), config.network()),
                (CONFIG_NAME, self.processor.to_dict(), processor.to_dict()),
            )
        except ConfigError as error:
            raise BundleError(error.got, expected=error.expected, fix=RE_EXPORT) from None
        factor = self.processor.rescale_factor
        if not _LEAST_FACTOR <= factor <= 1:
            raise BundleError(
                f"{self.folder / MANIFEST} says rescale_factor {factor:g}",
                expected="1/65535 (16-bit values to 0 .. 1) to 1",
                fix=RE_EXPORT,
            )
        for name, ours, theirs in pairs:
            require_same(self.folder / name, theirs, ours, self.folder)

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
            resolved = path.resolve()
            inside = any(resolved.is_relative_to(root) for root in self._roots())
        except (OSError, ValueError, RuntimeError):  # a NUL, half a character, links in a circle
            inside = False
        if pure.is_absolute() or ".." in pure.parts or not inside:
            raise BundleError(
                f"{self.folder / MANIFEST} names {name!r}, which lies outside the bundle",
                expected="files within its own folder",
                fix="do not use this bundle; " + RE_EXPORT,
            )
        return path

    def _roots(self) -> list[Path]:
        """Where its files may lie: its folder, and for one in the hub's cache the blobs it links to."""
        folder = self.folder.resolve()
        in_cache = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
        return [folder, folder.parent.parent / "blobs"] if in_cache else [folder]

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
            check_regular(path)
            as_it_was = identity(path)
            with path.open("rb") as file:
                size, digest = _size_and_digest(file, as_it_was[2], entry, text=name.endswith(".json"))
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
        self.held.hold(path, as_it_was)
        return path

    def check_files(self) -> int:
        """Checks the digest of every file and returns their number."""
        with progress.step("digests", len(self.manifest.files)) as step:
            for name in sorted(self.manifest.files):
                self.path(name)
                step.advance(name)
            step.finish(f"{len(self.manifest.files)} files unchanged")
        return len(self.manifest.files)

    def artefact(self, precision: str) -> Artefact:
        """The artefact of a precision."""
        for artefact in self.manifest.artefacts:
            if artefact.precision == precision:
                return artefact
        have = ", ".join(artefact.precision for artefact in self.manifest.artefacts)
        raise BundleError(
            f"{self.folder} has no {precision} artefact",
            expected=f"one of those it has: {have or 'none'}",
            fix=f"export it with {precision}: glpn-export {self.manifest.source.get('source', 'CHECKPOINT')} "
            f"{self.folder} --{precision}",
        )

    def require_unchanged(self) -> None:
        """Checks that what was read is still what stands there, once others have opened it by its path."""
        self.held.require_unchanged()

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


def require_same(where: Path, found: Mapping[str, Any], expected: Mapping[str, Any], bundle: Path) -> None:
    """Refuses a file of a bundle whose settings are not the manifest's."""
    for name, value in expected.items():
        if found.get(name) != value:
            raise BundleError(
                f"{where} says {name} {found.get(name)!r}",
                expected=f"{value!r}, as {bundle / MANIFEST} says",
                fix=f"do not edit a bundle's files: {RE_EXPORT}",
            )


def _size_and_digest(file: IO[bytes], size: int, entry: FileEntry, text: bool) -> tuple[int, str]:
    """Size and digest of an open file, of text as it is with the line endings it was written with.

    Git and mail turn LF into CRLF, and JSON means the same with either.
    """
    if text and entry["bytes"] < size <= 2 * entry["bytes"]:
        content = file.read().replace(b"\r\n", b"\n")
        if len(content) == entry["bytes"]:
            return len(content), hashlib.sha256(content).hexdigest()
    return size, content_digest(file) if size == entry["bytes"] else ""


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
