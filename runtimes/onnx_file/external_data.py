"""Where an ONNX file keeps its weights, read without onnx: outside its own folder is refused.

ONNX Runtime refuses such files itself only since microsoft/onnxruntime#26776 (December 2025), sparse tensors
and memory addresses since #28408 and #28709 (May 2026); earlier versions, from 1.17 on allowed here and the
newest for some JetPacks, open any path that the file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from glpn_deploy.errors import BundleError


def check_locations(path: Path, locations: Iterable[str]) -> list[Path]:
    """Checks that every file an ONNX file keeps weights in is a plain one in the same folder or below.

    Returns:
        Those files, each once, in the order they are named.
    """
    folder = path.parent.resolve()
    files: dict[Path, None] = {}
    for location in dict.fromkeys(locations):
        try:
            if not location or Path(location).is_absolute() or "*" in location:  # "*" marks memory addresses
                raise ValueError
            file = (folder / location).resolve()
            if not file.is_relative_to(folder) or (file.exists() and not file.is_file()):
                raise ValueError
        except (OSError, ValueError, RuntimeError):  # a name too long, a NUL; RuntimeError: links in a circle
            raise BundleError(
                f"{path} keeps weights in {location!r}, outside its own folder",
                expected="files beside it",
                fix="do not use this file; export the checkpoint again with glpn-export",
            ) from None
        files[file] = None
    return list(files)
