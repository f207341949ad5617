"""What an image processor's settings are: settable, checked, read and written as in transformers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from PIL import Image

from glpn_deploy.checkpoints.hub import hub_options
from glpn_deploy.checkpoints.settings import (
    SettingsFile,
    find_settings,
    read_settings,
    to_json,
    write_settings,
)
from glpn_deploy.errors import ConfigError

CONFIG_NAME = "preprocessor_config.json"
_NESTED_NAME = "processor_config.json"  # of a whole processor, whose part ``image_processor`` is this one

_MOST_FACTOR = 1000  # 1 / 255 is usual, 1 leaves bytes as they are; beyond lies what float32 does not hold
_TYPES = ("GLPNImageProcessor", "GLPNImageProcessorFast", "GLPNImageProcessorPil", "GLPNFeatureExtractor")
_NOT_SETTINGS = {"image_processor_type", "feature_extractor_type", "processor_class"}
_WITHOUT_EFFECT = {"use_fast", "backend", "trust_remote_code"}  # HF's: there is one implementation here
_Self = TypeVar("_Self", bound="ProcessorBase")


@dataclasses.dataclass(init=False, repr=False)
class ProcessorBase(SettingsFile):
    """The settings, which can be set and are checked when they are; unknown ones are kept.

    Attributes:
        do_resize: Stretch each side down to a multiple of ``size_divisor``; None, as transformers 5 reads
            null, is false here and below.
        size_divisor: The multiple [px].
        resample: Pillow's resampling filter, by its number: 2 is bilinear.
        do_rescale: Multiply by ``rescale_factor``; without it 8-bit values stay from 0 to 255.
        rescale_factor: 1/255 brings 8-bit values to 0 .. 1.
        do_normalize: Then subtract ``image_mean`` and divide by ``image_std``; GLPN's training did not.
        image_mean: One number, or one a channel.
        image_std: One number, or one a channel.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """

    file_name: ClassVar[str] = CONFIG_NAME
    expected: ClassVar[str] = "a GLPN preprocessor_config.json"
    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    do_resize: bool | None = True
    size_divisor: int = 32
    resample: int = 2
    do_rescale: bool | None = True
    rescale_factor: float = 1 / 255
    do_normalize: bool | None = None
    image_mean: float | Sequence[float] | None = None
    image_std: float | Sequence[float] | None = None

    def __init__(self, **values: Any) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, values.pop(field.name, field.default))
        for name, value in values.items():
            if name not in _NOT_SETTINGS:
                setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "resample" and value is None:
            value = Image.Resampling.BILINEAR
        _check(name, value)
        super().__setattr__(name, int(value) if name == "resample" else value)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def replace(self: _Self, **changes: Any) -> _Self:
        """A copy with the given settings changed.

        Raises:
            ConfigError: A value is unusable.
        """
        if not changes:
            return self
        changed = copy.copy(self)
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """The content of HF's ``preprocessor_config.json``; transformers reads it back."""
        optional = {field.name for field in dataclasses.fields(self) if field.default is None}
        values = {k: v for k, v in vars(self).items() if not (k in optional and v is None)}
        return {**copy.deepcopy(values), "image_processor_type": "GLPNImageProcessor"}

    def to_json_string(self) -> str:
        """The text of ``preprocessor_config.json``, keys sorted, with a final newline."""
        return to_json(self.to_dict())

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Writes the text of ``preprocessor_config.json`` to a file.

        Raises:
            WriteError: The file cannot be written.
        """
        write_settings(Path(json_file_path), self.to_json_string())

    @classmethod
    def from_dict(
        cls: type[_Self],
        image_processor_dict: dict[str, Any],
        *,
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """Reads the content of HF's ``preprocessor_config.json``, old or new; unknown keys are kept.

        Args:
            image_processor_dict: The content.
            return_unused_kwargs: Also give the overrides that are no settings.
            **overrides: Settings to change; other names are left out, as in HF.

        Raises:
            ConfigError: It is another model's, or a value is unusable.
        """
        values = image_processor_dict
        if not isinstance(values, dict):
            raise ConfigError(f"the processor config is a {type(values).__name__}", expected="a JSON object")
        for key in ("image_processor_type", "feature_extractor_type"):
            if values.get(key) is not None and values[key] not in _TYPES:
                raise _bad(key, values[key], "one of " + ", ".join(_TYPES))
        names = {field.name for field in dataclasses.fields(cls)} | set(values)
        processor = cls(**{**values, **{k: v for k, v in overrides.items() if k in names}})
        if not return_unused_kwargs:
            return processor
        return processor, {k: v for k, v in overrides.items() if k not in names}

    @classmethod
    def from_pretrained(cls: type[_Self], pretrained_model_name_or_path: str | Path, **keywords: Any) -> Any:
        """Reads the settings of a checkpoint folder, a bundle, a hub id, or the file itself.

        Args:
            pretrained_model_name_or_path: Folder, file, hub id or ``demo``.
            **keywords: HF's of the hub (``revision``, ``cache_dir``, ``local_files_only``, ``token``,
                ``force_download``, ``subfolder``); the others are `from_dict`'s.

        Raises:
            CheckpointError: Nothing is there, or the hub did not give it.
            ConfigError: The file is missing, or not a usable GLPN processor config.
        """
        options, others = hub_options(keywords)
        others = {name: value for name, value in others.items() if name not in _WITHOUT_EFFECT}
        found = find_settings(
            pretrained_model_name_or_path, [_NESTED_NAME, CONFIG_NAME], options, expected=cls.expected
        )
        nested = len(found) == 1 or "image_processor" in read_settings(found[0], expected=cls.expected)
        return cls.from_json_file(found[0] if nested else found[1], **others)


def _check(name: str, value: Any) -> None:
    """Checks one setting."""
    if name in {"do_resize", "do_rescale", "do_normalize"}:
        if not isinstance(value, (bool, type(None))):
            raise _bad(name, value, "true or false")
    elif name == "size_divisor":
        if not _is_int(value) or value < 1:
            raise _bad(name, value, "a whole number of at least 1")
    elif name == "resample":
        if not _is_int(value) or int(value) not in list(Image.Resampling):
            raise _bad(name, value, "the number of a Pillow filter, 0 to 5")
    elif name == "rescale_factor":
        if not _is_number(value) or not 0 < value <= _MOST_FACTOR:
            raise _bad(name, value, f"a number above 0, up to {_MOST_FACTOR}")
    elif name in {"image_mean", "image_std"} and value is not None:
        values = value if isinstance(value, (list, tuple)) else [value]
        if len(values) not in (1, 3) or not all(map(_is_number, values)):
            raise _bad(name, value, "a number, or one a channel")
        if name == "image_std" and 0 in values:
            raise _bad(name, value, "numbers other than 0")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"processor config value {name} = {value!r}", expected=expected)
