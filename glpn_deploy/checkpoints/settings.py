"""JSON settings beside the weights (``config.json``, ``preprocessor_config.json``): found, read, written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from glpn_deploy.atomic import atomic_path, make_folder
from glpn_deploy.checkpoints.hub import HubOptions, fetch_files, is_hub_id, resolve_checkpoint
from glpn_deploy.checkpoints.upload import push_folder
from glpn_deploy.errors import ConfigError, ConfigFileError, WriteError
from glpn_deploy.reading import read_json

_Self = TypeVar("_Self", bound="SettingsFile")


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
        folder = resolve_checkpoint(source, HubOptions(offline=True))
        if folder.is_file():
            return [folder]
        folder /= options.subfolder
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        where = str(source) if is_hub_id(source) else str(folder)
        raise ConfigFileError(f"there is no file {Path(where) / names[-1]}", expected=expected)
    return found


def read_settings(path: Path, *, expected: str) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigFileError(f"there is no file {path}", expected=expected) from None
    except (OSError, ValueError) as error:
        raise ConfigFileError(f"{path} is not readable JSON ({error})", expected=expected) from None
    if not isinstance(values, dict):
        raise ConfigFileError(f"{path}: the config is a {type(values).__name__}", expected="a JSON object")
    return values


class SettingsFile:
    """Settings that stand in a JSON file of their own, as transformers writes it.

    Attributes:
        file_name: The file's name.
        expected: What it is, for messages.
    """

    file_name: ClassVar[str]
    expected: ClassVar[str]

    def to_json_string(self) -> str:
        """The file's text, keys sorted, with a final newline."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls: type[_Self], *content: Any, **overrides: Any) -> Any:
        """Reads the file's content, a dictionary."""
        raise NotImplementedError

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **hub: Any) -> Any:
        """Writes the file into a folder, which is made where missing.

        Args:
            save_directory: The folder.
            push_to_hub: Also upload it, to ``repo_id`` or the repository of the folder's name.
            **hub: Of `push_to_hub`.

        Returns:
            The file's path in a list, as HF's processors give it.

        Raises:
            ConfigError: A value is unusable.
            WriteError: The folder or the file cannot be written.
        """
        folder = Path(save_directory)
        if folder.is_file():
            raise WriteError(f"{folder} is a file", expected="a folder")
        path = write_settings(folder / self.file_name, self.to_json_string())
        if push_to_hub:
            self.push_to_hub(hub.pop("repo_id", folder.name), **hub)
        return [str(path)]

    def push_to_hub(self, repo_id: str, **hub: Any) -> Any:
        """Uploads the file; the keywords are `checkpoints.upload.push_folder`'s."""
        return push_folder(self.save_pretrained, repo_id, **hub)

    @classmethod
    def from_json_file(cls: type[_Self], json_file: str | Path, **overrides: Any) -> Any:
        """Reads the file, or the part of a ``processor_config.json``; the keywords are `from_dict`'s.

        Raises:
            ConfigError: The file is missing, not JSON, or not usable.
        """
        path = Path(json_file)
        values = read_settings(path, expected=cls.expected)
        try:
            return cls.from_dict(values.get("image_processor", values), **overrides)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.got}", expected=error.expected, fix=error.fix) from None


def to_json(values: dict[str, Any]) -> str:
    """The text of a settings file: keys sorted, two spaces, a final newline."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def write_settings(path: Path, text: str) -> Path:
    """Writes a settings file whole or not at all, and makes its folder where missing."""
    make_folder(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
