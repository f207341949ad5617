"""JSON from anywhere into dataclasses: one strict decoder, led by the fields' own declarations."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from glpn_deploy.errors import GlpnError

T = TypeVar("T")
REQUIRED = {"required": True}
"""Metadata of a dataclass's field that must stand in a file though it has a default."""
_MOST = 1 << 63
_SHOWN_CHARACTERS = 60
_PLAIN: dict[Any, str] = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}


@dataclasses.dataclass(frozen=True)
class Valid:
    """What a field may hold beside its type, as part of its annotation: ``Annotated[int, Valid(...)]``.

    Attributes:
        words: What is valid, for the message.
    """

    words: str
    holds: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class ReadBy:
    """A function that reads a field in place of the decoder; it raises a `GlpnError` of its own."""

    function: Callable[[Any], Any]


def within(low: float, high: float) -> Valid:
    """Numbers from ``low`` to ``high``, both included."""
    return Valid(f"{low:g} to {high:g}", lambda value: low <= value <= high)


def count(low: int, high: int) -> Valid:
    """Lists and objects with so many entries."""
    return Valid(f"{low} to {high} entries", lambda value: low <= len(value) <= high)


def printable(pattern: str = ".*", words: str = "printable text", most: int = 512) -> Valid:
    """Text without control characters, which would reach the terminal, that a pattern matches as a whole."""

    def holds(value: str) -> bool:
        return len(value) <= most and value.isprintable() and bool(re.fullmatch(pattern, value, re.ASCII))

    return Valid(f"{words} of at most {most} characters", holds)


class FieldError(Exception):
    """A value that its field's declaration does not allow.

    Attributes:
        got: Field and value as a clause: "profiles[0].min is null".
        expected: What is valid.
    """

    def __init__(self, field: str, clause: str, expected: str = "") -> None:
        super().__init__(f"{field or 'the content'} {clause}")
        self.got, self.expected = str(self), expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document(Generic[T]):
    """A kind of JSON file.

    Attributes:
        what: What it is, in words ("a bundle's manifest").
        name: Its format's name, which stands under ``name_key``.
        version: The newest version of the format that is read, under ``version_key``.
        upgrade: Turns an older version's values, of which only the head has been checked, into the newest's;
            may raise `FieldError`.
    """

    into: type[T]
    what: str
    name: str
    version: int
    error: type[GlpnError]
    name_key: str = "format"
    version_key: str = "format_version"
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values

    def read(self, text: str | bytes, where: str, fix: str) -> T:
        """Decodes a file's text; ``where`` is its name and ``fix`` what to do about a damaged one.

        Raises:
            GlpnError: ``error``, naming file, field, what was found and what is valid.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = (
                str(error).splitlines()[0][:200] if isinstance(error, ValueError) else "nested too deeply"
            )
            raise self.error(f"{where} is not {self.what}: it is not JSON ({reason})", fix=fix) from None
        return self.decode(values, where, fix)

    def decode(self, values: Any, where: str, fix: str) -> T:
        """As `read`, for what `json.loads` gave."""
        version = values.get(self.version_key) if isinstance(values, dict) else None
        if (
            version is None
            or values.get(self.name_key) != self.name
            or type(version) is not int
            or version < 1
        ):
            expected = f"JSON whose {self.name_key} is {self.name}, with a {self.version_key}"
            raise self.error(f"{where} is not {self.what}", expected=expected, fix=fix)
        if version > self.version:
            raise self.error(
                f"{where} has {self.version_key.replace('_', ' ')} {shown(version)}",
                expected=f"at most {self.version}",
                fix="upgrade with pip install -U glpn-deploy",
            )
        try:
            return decode(self.into, self.upgrade(values))
        except FieldError as error:
            raise self.error(f"{where} is damaged: {error.got}", expected=error.expected, fix=fix) from None
        except RecursionError:
            raise self.error(f"{where} is damaged: it is nested too deeply", fix=fix) from None


def decode(kind: type[T], value: Any, field: str = "") -> T:
    """Makes a value of a declared type out of what `json.loads` gave.

    Dataclasses and TypedDicts come from objects: a field without a default must be there, other keys are
    left out, and what ``__post_init__`` refuses is refused. Also known: str, int, float (which takes whole
    numbers), bool, Literal, lists, tuples, dict with str or int keys, ``X | None``, Any, and ``Annotated``
    with `Valid` or `ReadBy`. No number is NaN, infinite, or beyond 64 bits.

    Raises:
        FieldError: The value is something else.
    """
    decoded: T = _decode(kind, value, field)
    return decoded


def shown(value: Any) -> str:
    """A value for a message, on one line and of bounded length."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if type(value) is int and abs(value) >= _MOST:
        return "a number beyond 64 bits"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{value[:_SHOWN_CHARACTERS]!r} and {len(value) - _SHOWN_CHARACTERS} more characters"
    return repr(value)


def _decode(kind: Any, value: Any, field: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(inner[0], inner[1:], value, field)
    if origin in (Union, types.UnionType):  # X | None is the only one
        return None if value is None else _decode(inner[0], value, field)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise _refused(field, value, f"one of {', '.join(map(str, inner))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise _refused(field, value, "a list")
        kinds = inner if origin is tuple and inner[1:] != (...,) else inner[:1] * len(value)
        if len(kinds) != len(value):
            raise _refused(field, value, f"a list of {len(kinds)}")
        return origin(_decode(kinds[i], entry, f"{field}[{i}]") for i, entry in enumerate(value))
    if kind is Any:
        return _anything(value, field)
    if origin is dict or dataclasses.is_dataclass(kind) or is_typeddict(kind):
        if not isinstance(value, dict):
            raise _refused(field, value, "an object")
        return _mapping(inner[0], inner[1], value, field) if origin is dict else _record(kind, value, field)
    too_large = type(value) is int and abs(value) >= _MOST
    if kind is float and type(value) is int and not too_large:
        return float(value)
    if type(value) is not kind or too_large or (kind is float and not math.isfinite(value)):
        raise _refused(field, value, _PLAIN[kind])
    return value


def _annotated(kind: Any, rules: tuple[Any, ...], value: Any, field: str) -> Any:
    if isinstance(rules[0], ReadBy):
        return _made(functools.partial(rules[0].function, value), field)
    decoded = _decode(kind, value, field)
    for rule in rules:
        if not rule.holds(decoded):
            raise _refused(field, value, rule.words)
    return decoded


def _mapping(key_kind: Any, kind: Any, values: dict[Any, Any], field: str) -> dict[Any, Any]:
    found = {}
    for key, entry in values.items():
        place = f"{field}[{shown(key)}]"
        if key_kind is int and isinstance(key, str) and re.fullmatch(r"-?\d{1,18}", key, re.ASCII):
            key = int(key)  # JSON's keys are text
        found[_decode(key_kind, key, f"the key {place}")] = _decode(kind, entry, place)
    return found


def _record(kind: Any, values: dict[Any, Any], field: str) -> Any:
    given = {}
    for name, (declared, required) in _declarations(kind).items():
        place = f"{field}.{name}" if field else name
        if name in values:
            given[name] = _decode(declared, values[name], place)
        elif required:
            raise FieldError(place, "is missing")
    return _made(functools.partial(kind, **given), field)


@functools.cache
def _declarations(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Type of every field, and whether it must be there."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return {name: (hint, True) for name, hint in hints.items()}
    return {
        field.name: (
            hints[field.name],
            field.default is field.default_factory is dataclasses.MISSING or field.metadata == REQUIRED,
        )
        for field in dataclasses.fields(kind)
        if field.init
    }


def _anything(value: Any, field: str) -> Any:
    """Looks for numbers that no field may hold, and leaves the rest as it is."""
    if isinstance(value, dict):
        _mapping(str, Any, value, field)
    elif isinstance(value, (list, tuple)):
        _decode(list[Any], value, field)
    elif isinstance(value, (int, float)):
        _decode(type(value), value, field)
    return value


def _made(make: Callable[[], Any], field: str) -> Any:
    try:
        return make()
    except GlpnError as error:
        raise FieldError(field, f"is not valid: {error.got}", error.expected) from None


def _refused(field: str, value: Any, valid: str) -> FieldError:
    return FieldError(field, f"is {shown(value)}", valid)
