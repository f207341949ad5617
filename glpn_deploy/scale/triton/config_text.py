"""Protobuf's text format of plain values, for config.pbtxt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Enum(str):
    """An enumeration's name, which stands without quotes."""


def parameters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """A model's ``parameters``, a map of messages."""
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]


def to_text(message: Mapping[str, Any]) -> str:
    """A message in protobuf's text format: https://protobuf.dev/reference/protobuf/textformat-spec.

    Args:
        message: Fields by name: texts, `Enum` names, numbers, booleans, messages, or lists of those.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            if value and isinstance(value[0], Mapping):
                for item in value:
                    yield from _lines({name: item}, indent)
            else:
                yield f"{indent}{name}: [{', '.join(map(_scalar, value))}]"
        elif isinstance(value, Mapping):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, Enum):
        return str(value)
    return json.dumps(value, ensure_ascii=False)  # text, numbers and booleans are written alike
