"""Compiled networks on disk, for a faster second start; nothing is given out whose digest does not match.

OpenVINO's own cache (``CACHE_DIR``) loads damaged entries (docs/decisions/backends.md).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.atomic import atomic_path
from glpn_deploy.errors import WriteError

_DIGEST = 32  # bytes of SHA-256 in front of the content
_BLOCK = 8 << 20  # bytes hashed by one thread at a time
_PAGE = 4096  # bytes; what is given out starts at a page, as if a library had mapped it
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

    def read(self, name: str) -> NDArray[np.uint8] | None:
        """An entry's content, or None where there is none; a damaged entry is removed."""
        path = self._path(name)
        try:
            about = path.stat()
            size = max(about.st_size - _DIGEST, 0)
            expected, content = _pages(min(_DIGEST, about.st_size)), _pages(size)
            _fill(path, about, 0, expected)
            found = _digest(size, lambda at, end: _fill(path, about, at + _DIGEST, content[at:end]))
        except (OSError, RuntimeError):  # RuntimeError: no thread can be started
            return None
        if found != expected.tobytes():
            self.remove(name)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return content

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Keeps an entry, whole or not at all."""
        # No room, no permission, a file in its place; no thread.
        with contextlib.suppress(OSError, WriteError, RuntimeError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(content) + _DIGEST)
            with atomic_path(self._path(name)) as part, part.open("wb") as file:
                file.write(_digest(len(content), lambda start, end: content[start:end]))
                file.write(content)

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
    """A digest of the content of files, in hexadecimal; that of this module, not the file's own SHA-256.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()

        def block(at: int, end: int, path: Path = path, about: os.stat_result = about) -> NDArray[np.uint8]:
            return _fill(path, about, at, _pages(end - at))

        digest.update(about.st_size.to_bytes(8, "little"))
        digest.update(_digest(about.st_size, block))
    return digest.hexdigest()


def _digest(size: int, block: Callable[[int, int], Any]) -> bytes:
    """SHA-256 over the SHA-256 of every eight megabytes, which threads take in turns.

    Args:
        size: Bytes in all.
        block: Gives the bytes from a start to an end.
    """
    edges = [(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]
    with ThreadPoolExecutor(min(8, max(1, len(edges)))) as pool:
        parts = pool.map(lambda edge: hashlib.sha256(block(*edge)).digest(), edges)
        return hashlib.sha256(b"".join(parts)).digest()


def _fill(path: Path, about: os.stat_result, start: int, target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reads what follows a place in a file.

    Raises:
        OSError: It ends before, or is not the file any more that ``about`` tells of.
    """
    with path.open("rb", buffering=0) as file:
        if not os.path.samestat(os.fstat(file.fileno()), about):
            raise OSError(errno.ESTALE, "replaced while it was read", str(path))
        file.seek(start)
        view, done = target.data, 0
        while done < target.size:
            count = file.readinto(view[done:])
            if not count:
                raise OSError(errno.EIO, f"ends after {start + done} bytes", str(path))
            done += count
    return target


def _pages(size: int) -> NDArray[np.uint8]:
    """Memory that nothing has touched yet, from the start of a page."""
    memory = np.empty(size + _PAGE, np.uint8)
    start = -memory.ctypes.data % _PAGE
    return memory[start : start + size]
