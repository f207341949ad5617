"""What every configuration of transformers has, network or not: flags, labels, files, the hub."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from glpn_deploy.checkpoints.hub import hub_options
from glpn_deploy.checkpoints.settings import (
    SettingsFile,
    find_settings,
    read_settings,
    to_json,
    write_settings,
)
from glpn_deploy.errors import ConfigError, InputError

CONFIG_NAME = "config.json"

_Config = TypeVar("_Config", bound="ConfigBase")
_PROVENANCE = {"architectures", "transformers_version"}
_NO_DIFFERENCE = {  # what HF leaves out of config.json
    "architectures": None,
    "chunk_size_feed_forward": 0,
    "dtype": None,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "output_attentions": False,
    "output_hidden_states": False,
    "problem_type": None,
    "return_dict": True,
    "transformers_version": None,
}


@dataclasses.dataclass(init=False, eq=False, repr=False)
class ConfigBase(SettingsFile):
    """Settable attributes, unknown keys kept, reading and writing, as transformers' ``PreTrainedConfig``.

    Two configurations are equal when the attributes below are, apart from those that tell where one came
    from (``architectures``, ``transformers_version``). Keys that are kept unknown do not count. Fields not
    described below are carried through for HF's sake.

    Attributes:
        transformers_version: Of the transformers that wrote the file, if one did.
        architectures: Names of the classes whose weights stand beside the file.
        output_hidden_states: Whether models give their hidden states without being asked.
        output_attentions: Whether models give their attention weights without being asked.
        return_dict: Whether models give a mapping (or a tuple) without being asked.
        attn_implementation: ``eager``, the only one that GLPN has, or None.
    """

    file_name: ClassVar[str] = CONFIG_NAME
    expected: ClassVar[str] = "a GLPN config.json"
    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}
    sub_configs: ClassVar[dict[str, Any]] = {}

    transformers_version: str | None = None
    architectures: list[str] | None = None
    output_hidden_states: bool | None = False
    output_attentions: bool | None = False
    return_dict: bool | None = True
    chunk_size_feed_forward: int = 0
    is_encoder_decoder: bool = False
    id2label: dict[int, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None

    def __init__(self, **values: Any) -> None:
        for name, alias in dict(values.pop("attribute_map", None) or {}).items():
            if alias in values:  # HF's way to keep a value under another name
                values[name] = values.pop(alias)
        dtypes = [values.pop(name, None) for name in ("dtype", "torch_dtype")]
        self.dtype = next((dtype for dtype in dtypes if dtype is not None), None)
        self._name_or_path = str(values.pop("name_or_path", values.pop("_name_or_path", "")))
        self._attn_implementation = values.pop("attn_implementation", None)
        for field in dataclasses.fields(self):
            setattr(self, field.name, values.pop(field.name, field.default))
        labels = values.pop("num_labels", None)
        if self.id2label is None:
            self.num_labels = 2 if labels is None else labels
        else:
            self.id2label = {int(key): label for key, label in self.id2label.items()}
        for name, value in values.items():
            if name != "model_type" and not isinstance(getattr(type(self), name, None), property):
                setattr(self, name, value)

    def validate(self) -> None:
        """Checks the values as a whole; a model does so when it is made."""

    def replace(self: _Config, **changes: Any) -> _Config:
        """A copy with the given values changed, checked as a whole.

        Raises:
            ConfigError: A value is unusable.
        """
        changed = copy.deepcopy(self)
        changed.update(changes)
        changed.validate()
        return changed

    def update(self, values: dict[str, Any]) -> None:
        """Sets several attributes."""
        for name, value in values.items():
            setattr(self, name, value)

    def update_from_string(self, text: str) -> None:
        """Sets attributes from ``name=value,name=value``; each must be there and a number, flag or text.

        Raises:
            InputError: A name is unknown, or its value is of another kind.
        """
        for part in text.split(","):
            name, _, value = part.partition("=")
            old = getattr(self, name, None)
            if not isinstance(old, (bool, int, float, str)):
                raise InputError(f"{part!r}", expected="name=value of a number, flag or text of the config")
            try:
                number = str(old) if isinstance(old, str) else json.loads(value)
                setattr(self, name, value if isinstance(old, str) else type(old)(number))
            except ValueError:
                raise InputError(f"{part!r}", expected=f"a {type(old).__name__}") from None

    @property
    def dtype(self) -> Any:
        """The weights' type: a ``torch.dtype`` where torch is installed, else its name, or None."""
        if self._dtype is None:
            return None
        try:
            return getattr(importlib.import_module("torch"), self._dtype, self._dtype)
        except ImportError:
            return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._dtype = None if value is None else str(value).removeprefix("torch.")

    torch_dtype = dtype

    @property
    def name_or_path(self) -> str:
        """What the configuration was loaded from."""
        return self._name_or_path

    @name_or_path.setter
    def name_or_path(self, value: object) -> None:
        self._name_or_path = str(value)

    @property
    def num_labels(self) -> int | None:
        """The number of labels; GLPN has none, but files carry it."""
        return None if self.id2label is None else len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if self.id2label is None or len(self.id2label) != value:
            self.id2label = {i: f"LABEL_{i}" for i in range(value)}
            self.label2id = {label: i for i, label in self.id2label.items()}

    @property
    def use_return_dict(self) -> bool | None:
        """The old name of ``return_dict``."""
        return self.return_dict

    @property
    def attn_implementation(self) -> str | None:
        """``eager`` or None."""
        return None if self._attn_implementation is None else str(self._attn_implementation)

    def get_text_config(self: _Config, decoder: bool | None = None, encoder: bool | None = None) -> _Config:
        """The configuration itself: there is no text in it."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Every value, as HF's ``to_dict``; what `__init__` takes back, and transformers' too."""
        values = {name: _plain(value) for name, value in vars(self).items()}
        values["dtype"] = values.pop("_dtype")
        del values["_attn_implementation"]
        values["model_type"] = self.model_type
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """The network's values, and what differs from HF's defaults: the content of ``config.json``."""
        values = self.to_dict()
        del values["_name_or_path"]
        return {
            name: value
            for name, value in values.items()
            if name not in _NO_DIFFERENCE or value != _NO_DIFFERENCE[name]
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of ``config.json``, keys sorted, with a final newline."""
        return to_json(self.to_diff_dict() if use_diff else self.to_dict())

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Writes the text of ``config.json`` to a file.

        Raises:
            WriteError: The file cannot be written.
        """
        write_settings(Path(json_file_path), self.to_json_string(use_diff))

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **hub: Any) -> None:
        """As `SettingsFile.save_pretrained`, once the values are checked as a whole."""
        self.validate()
        super().save_pretrained(save_directory, push_to_hub, **hub)

    @classmethod
    def from_dict(
        cls: type[_Config],
        config_dict: dict[str, Any],
        *,
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """Builds a configuration from the content of a ``config.json``; keys that are not GLPN's are kept.

        Args:
            config_dict: The content.
            return_unused_kwargs: Also give the overrides that are no attributes.
            **overrides: Attributes to set; other names are left out, as in HF.

        Raises:
            ConfigError: ``model_type`` is another model's, or a value is unusable.
        """
        if not isinstance(config_dict, dict):
            raise ConfigError(f"the config is a {type(config_dict).__name__}", expected="a JSON object")
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ConfigError(
                f"the config's model_type is {model_type!r}",
                expected=repr(cls.model_type),
                fix="give a GLPN checkpoint such as vinvino02/glpn-nyu",
            )
        config = cls(**config_dict)
        if overrides.get("dtype", overrides.get("torch_dtype")) == "auto":
            overrides = {k: v for k, v in overrides.items() if k not in {"dtype", "torch_dtype"}}
        known = {name: value for name, value in overrides.items() if hasattr(config, name)}
        if "attn_implementation" in known:
            config._attn_implementation = known.pop("attn_implementation")
        config.update(known)
        config.validate()
        unused = {k: v for k, v in overrides.items() if not hasattr(config, k)}
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **keywords: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of a checkpoint's ``config.json``, and the keywords that are not the hub's."""
        path, others = _find(pretrained_model_name_or_path, keywords)
        return read_settings(path, expected=ConfigBase.expected), others

    @classmethod
    def from_pretrained(
        cls: type[_Config], pretrained_model_name_or_path: str | Path, **keywords: Any
    ) -> Any:
        """Reads the ``config.json`` of a checkpoint folder, of a hub id, or the file itself.

        Args:
            pretrained_model_name_or_path: Folder, file, hub id or ``demo``.
            **keywords: HF's of the hub (``revision``, ``cache_dir``, ``local_files_only``, ``token``,
                ``force_download``, ``subfolder``); the others are `from_dict`'s.

        Raises:
            CheckpointError: Nothing is there, or the hub did not give it.
            ConfigError: The file is missing, or not a usable GLPN config.
        """
        path, others = _find(pretrained_model_name_or_path, keywords)
        return cls.from_json_file(path, **others)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        names = {field.name for field in dataclasses.fields(self)} - _PROVENANCE
        return all(_plain(getattr(self, name)) == _plain(getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]  # its values may change

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def _find(source: str | Path, keywords: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    options, others = hub_options(keywords)
    return find_settings(source, [CONFIG_NAME], options, expected=ConfigBase.expected)[0], others


def _plain(value: Any) -> Any:
    """A copy with lists in the place of tuples, as JSON gives them back."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return copy.deepcopy(value)
