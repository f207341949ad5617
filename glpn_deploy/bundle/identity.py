"""Whether the files that were checked still stand at their paths, asked without reading them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from glpn_deploy.errors import BundleError

Identity = tuple[int, int, int, int, int]
"""Device, inode, size [bytes], and the times of the last change of content and of inode [ns].

Nobody can set the last one (on Windows it is the time of creation): what was put back after a change, or
written over in place, is another file by it.
"""


def identity(path: Path, descriptor: int | None = None) -> Identity:
    """The identity of the file at a path, or of the open one."""
    about = path.stat() if descriptor is None else os.fstat(descriptor)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


class HeldFiles:
    """Files as they were when they were checked, to be asked about once they have been opened by path."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._held: dict[Path, Identity] = {}
        for path in paths:
            try:
                self.hold(path, identity(path))
            except OSError as error:
                raise _replaced(path) from error

    def hold(self, path: Path, as_it_was: Identity) -> None:
        """Adds a file with the identity that it had when it was last checked."""
        self._held[path] = as_it_was

    def require_unchanged(self) -> None:
        """Checks that every file is still the one that was held."""
        for path, held in self._held.items():
            try:
                now = identity(path)
            except OSError:
                now = None
            if now != held:
                raise _replaced(path)


def _replaced(path: Path) -> BundleError:
    return BundleError(f"{path} was replaced or written to while it was being loaded", fix="load it again")
