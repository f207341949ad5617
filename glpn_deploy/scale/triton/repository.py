"""glpn-repository.json: what a Triton model repository was made from, and the digest of every file in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.bundle.manifest import FileEntry
from glpn_deploy.decoding import Document
from glpn_deploy.errors import BundleError
from glpn_deploy.reading import file_digest, read_text

REPOSITORY = "glpn-repository.json"
FORMAT, FORMAT_VERSION = "glpn-deploy-triton", 1
_AGAIN = "write it again with glpn-serve BUNDLE --write REPOSITORY"


@dataclasses.dataclass(frozen=True)
class Repository:
    """The content of glpn-repository.json.

    Attributes:
        bundle: Name of the bundle that it was made from.
        manifest_sha256: Digest of that bundle's manifest.
        source: The checkpoint: name, revision, digest, licence.
        network: What glpn_net and glpn_python run: file, precision, digest.
        models: Triton's names of the models.
        options: What the repository was asked to be.
        tools: Version of what made it.
        files: SHA-256 and size of every file but this one.
    """

    bundle: str
    manifest_sha256: str
    source: dict[str, Any]
    network: dict[str, str]
    models: tuple[str, ...]
    options: dict[str, Any]
    tools: dict[str, str]
    files: dict[str, FileEntry]

    def to_json(self) -> str:
        """The text of glpn-repository.json."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps({**head, **dataclasses.asdict(self)}, indent=2, allow_nan=False, default=str) + "\n"


_DOCUMENT = Document(
    into=Repository, what="a model repository's list", name=FORMAT, version=FORMAT_VERSION, error=BundleError
)


def is_repository(folder: Path) -> bool:
    """Whether a folder is a repository of `write_repository`."""
    return (folder / REPOSITORY).is_file()


def check_repository(folder: Path) -> Repository:
    """Checks the digest of every file, and that there is none beside them that Triton would serve.

    Raises:
        BundleError: It is no repository, a file is missing or changed, or there is one too many.
    """
    path = folder / REPOSITORY
    try:
        repository = _DOCUMENT.read(read_text(path), str(path), _AGAIN)
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read ({error})", fix=_AGAIN) from None
    found = list_files(folder)
    with progress.step("digests", len(repository.files)) as step:
        for name, entry in sorted(repository.files.items()):
            if name not in found:
                raise BundleError(f"there is no file {folder / name}", fix=_AGAIN)
            if found.pop(name) != entry:
                raise BundleError(
                    f"the content of {folder / name} changed since it was written (SHA-256 differs)",
                    fix=_AGAIN,
                )
            step.advance(name)
        if found:
            raise BundleError(
                f"{folder / min(found)} is not the repository's, and Triton may serve it",
                expected=f"the {len(repository.files)} files that {path} lists",
                fix="remove it, or " + _AGAIN,
            )
        step.finish(f"{len(repository.files)} files unchanged")
    return repository


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Digest and size of every file in a repository but its list."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / REPOSITORY
    }
