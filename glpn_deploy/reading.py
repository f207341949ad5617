"""Reading small files that may come from anyone: regular files alone, bounded, without code."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

MOST_TEXT_BYTES = 8 << 20
"""Largest JSON or list of files that is read; a manifest has some 20 kB, NYU's list of 24,231 pairs 3 MB."""

_MOST_NESTED = 64


def check_regular(path: Path) -> int:
    """Refuses what is no regular file, at the end of links: opening a pipe would wait for ever.

    Returns:
        Its size [bytes].

    Raises:
        OSError: It is none, or is missing.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return about.st_size


def is_regular(path: Path) -> bool:
    """Whether a regular file is there; a name that no file can have is not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, links in a circle; a NUL
        return False


def read_bytes(path: Path) -> bytes:
    """A text file's content, for a decoder.

    Raises:
        OSError: It is missing, cannot be read, is no regular file, or is larger than `MOST_TEXT_BYTES`.
    """
    size = check_regular(path)
    with path.open("rb") as file:
        content = file.read(MOST_TEXT_BYTES + 1)
    if max(size, len(content)) > MOST_TEXT_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MOST_TEXT_BYTES >> 20} MiB", str(path))
    return content


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A text file's content."""
    return read_bytes(path).decode(encoding)


def read_json(path: Path) -> Any:
    """A JSON file's content."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """`json.loads`, for text that may come from anyone."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(_MOST_NESTED):  # what walks or prints values would meet Python's own limit
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError("nested too deeply")


def memory_sizes(root: Path = Path("/")) -> dict[str, int]:
    """What Linux says of the machine's memory [bytes]: ``MemTotal`` and so on; empty where it does not."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return content_digest(file)


def content_digest(file: IO[bytes]) -> str:
    """SHA-256 of what is left of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the lines ``<sha256 of the file>  <its name>``, in the order given."""
    return hashlib.sha256(
        "".join(f"{file_digest(path)}  {path.name}\n" for path in paths).encode()
    ).hexdigest()
