"""What folders hold."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content(folder: Path) -> dict[str, str]:
    """Digests by file name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    """Its entries, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())
