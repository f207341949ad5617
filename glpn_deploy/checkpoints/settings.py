"""JSON settings beside the weights (``config.json``, ``preprocessor_config.json``): found, read, written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.atomic import atomic_path, make_folder
from glpn_deploy.checkpoints.hub import HubOptions, fetch_files, is_hub_id, resolve_checkpoint
from glpn_deploy.errors import ConfigFileError
from glpn_deploy.reading import read_json


def find_settings(
    source: str | Path, names: Sequence[str], options: HubOptions, *, expected: str
) -> list[Path]:
    """The settings files of a checkpoint, those of ``names`` that are there, in that order.

    Args:
        source: A folder, one such file itself, a hub id (of which only these files are fetched), or demo.
        expected: What one of them is, for the message.

    Raises:
        CheckpointError: The source is nowhere.
        ConfigFileError: The source has none of them.
    """
    if is_hub_id(source):
        folder = fetch_files(str(source), names, options)
    else:
        folder = resolve_checkpoint(source, offline=True)
        if folder.is_file():
            return [folder]
        folder /= options.subfolder
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        where = str(source) if is_hub_id(source) else str(folder)
        raise ConfigFileError(f"there is no file {Path(where) / names[-1]}", expected=expected)
    return found


def read_settings(path: Path, *, expected: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigFileError: The file is missing or holds no JSON object.
    """
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigFileError(f"there is no file {path}", expected=expected) from None
    except (OSError, ValueError) as error:
        raise ConfigFileError(f"{path} is not readable JSON ({error})", expected=expected) from None
    if not isinstance(values, dict):
        raise ConfigFileError(f"{path}: the config is a {type(values).__name__}", expected="a JSON object")
    return values


def to_json(values: dict[str, Any]) -> str:
    """The text of a settings file: keys sorted, two spaces, a final newline."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def write_settings(path: Path, text: str) -> Path:
    """Writes a settings file whole or not at all, and makes its folder where missing.

    Raises:
        WriteError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
