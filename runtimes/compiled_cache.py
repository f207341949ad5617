"""Compiled networks on disk, for a faster second start; nothing is given out whose digest does not match.

OpenVINO has a cache of its own (``CACHE_DIR``), which is not used: it loads an entry with a changed byte
among the weights without a word (tried with 2026.4), and never removes one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

_DIGEST = 32  # bytes of SHA-256 in front of the content
_SUFFIX = ".compiled"


class CompiledCache:
    """A folder of entries by name. A cache never fails: what cannot be read or written is not there.

    Args:
        folder: Where the entries stand; made when the first one is written. Others must not be able to
            write to it: the entries are data for a native parser.
        limit_bytes: Most bytes in all; the entries not used for longest are removed past that.
    """

    def __init__(self, folder: Path, limit_bytes: int = 2 << 30) -> None:
        self._folder, self._limit = folder, limit_bytes

    def read(self, name: str) -> memoryview | None:
        """An entry's content, or None where there is none; a damaged entry is removed."""
        path = self._path(name)
        try:
            content = memoryview(path.read_bytes())
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            self.remove(name)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return content[_DIGEST:]

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Keeps an entry, whole or not at all."""
        part = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(content) + _DIGEST)
            handle, part = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            Path(part).replace(self._path(name))
        except OSError:  # no room, no permission, a file in its place
            if part is not None:
                with contextlib.suppress(OSError):
                    Path(part).unlink()

    def remove(self, name: str) -> None:
        """Removes an entry, if it is there."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def has(self, prefix: str) -> bool:
        """Whether there is an entry whose name starts so."""
        try:
            return any(self._folder.glob(f"{prefix}*{_SUFFIX}"))
        except OSError:
            return False

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        entries = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another process removed it
                entries.append((path.stat().st_mtime, path.stat().st_size, path))
        held = sum(size for _, size, _ in entries)
        for _, freed, path in sorted(entries):
            if held + size <= self._limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            held -= freed


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 over the content of files, in hexadecimal.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.stat().st_size.to_bytes(8, "little"))
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
