"""Options declared once: annotated fields of a dataclass, checked by the library and offered by commands."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from glpn_deploy.errors import InputError

COMMON, ADVANCED = "Options", "Advanced"
"""Panels of ``--help``: what most people need, and the rest."""

Auto = Literal["auto"]
Device = Literal["auto", "cpu", "cuda"]


class Reader(NamedTuple):
    """How a value is typed.

    Attributes:
        read: Makes the value of the option's name, for errors, and of what was typed.
        show: Writes a default as it would be typed.
        several: Whether the option may be repeated, which is as good as commas.
    """

    read: Callable[[str, Any], Any]
    show: Callable[[Any], Any] = str
    several: bool = False


@dataclasses.dataclass(frozen=True)
class Option:
    """What a command's ``--help`` says of a field and what values it takes.

    Written as ``threads: Annotated[int | None, Option("Threads within one operator.", least=1)] = None``. The
    option is named after the field, and its default is the field's.

    Attributes:
        names: Its names, where not the field's (``("--out", "-o")``).
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        reader: How it is typed, where not as Typer would read the field's type.
        argument: Whether it is given by its place instead of by name.
        hidden: Whether commands do not offer it: only its bounds are said.
        former: Former names, ``--half-io=fp16`` for a flag that is a value now. Commands take them with a
            note, and do not show them.
        instead: What is typed instead of it now. Commands take it with a note, and do not show it.
        shorthands: Values that may be typed as options of their own: ``--fp16`` for ``--precision fp16``.
    """

    help: str = ""
    _: dataclasses.KW_ONLY
    names: tuple[str, ...] = ()
    metavar: str | None = None
    panel: str = COMMON
    least: float | None = None
    most: float | None = None
    above: float = -math.inf
    below: float = math.inf
    reader: Reader | None = None
    typed: Any = str
    argument: bool = False
    hidden: bool = False
    former: tuple[str, ...] = ()
    instead: str = ""
    shorthands: tuple[str, ...] = ()


class Only(NamedTuple):
    """Beside a field that is itself a dataclass of options: the fields of it that a command offers."""

    fields: tuple[str, ...]


class Field(NamedTuple):
    """A field as it is declared.

    Attributes:
        option: What is said of it; None where commands do not offer it.
        only: The fields of it that are offered, where it is itself a dataclass of options.
    """

    name: str
    type: Any
    option: Option | None
    only: Only | None
    default: Any


@functools.cache
def declared(options: Any) -> tuple[Field, ...]:
    """The fields of a dataclass of options, in order."""
    found, names = [], vars(sys.modules[options.__module__])
    for field in dataclasses.fields(options):
        try:
            hint = eval(field.type, names) if isinstance(field.type, str) else field.type
        except NameError:  # imported for type checkers only, and so not offered by commands
            hint = Any
        default = field.default_factory() if callable(field.default_factory) else field.default
        found.append(read_field(field.name, hint, default))
    return tuple(found)


def read_field(name: str, hint: Any, default: Any) -> Field:
    """A field, or a command's own parameter, from its annotation."""
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    option = next((extra for extra in extras if isinstance(extra, Option)), None)
    only = next((extra for extra in extras if isinstance(extra, Only)), None)
    return Field(name, kind, option, only, default)


def check_options(options: Any) -> None:
    """Holds every field to its choices and bounds; for ``__post_init__``."""
    for field in declared(options.__class__):
        value = getattr(options, field.name)
        several = isinstance(value, tuple)
        choices = choices_of(item_of(field.type) if several else field.type)
        for one in value if several else (value,):
            if choices and one not in choices and not (one is None and optional(field.type)):
                raise bad_option(spelled(field), one, f"one of {', '.join(map(str, choices))}")
        if field.option is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_bounds(field, field.option, value)


def _check_bounds(field: Field, option: Option, value: float) -> None:
    bounds = [
        f"{words} {bound:g}"
        for words, bound in (
            ("at least", option.least),
            ("at most", option.most),
            ("above", None if math.isinf(option.above) else option.above),
            ("below", None if math.isinf(option.below) else option.below),
        )
        if bound is not None
    ]
    low = -math.inf if option.least is None else option.least
    high = math.inf if option.most is None else option.most
    fits = low <= value <= high and option.above < value < option.below
    whole = int in (field.type, *get_args(field.type)) and float not in (field.type, *get_args(field.type))
    if not fits or (whole and not isinstance(value, int)):
        kind = "a whole number" if whole else "a finite number"
        raise bad_option(spelled(field), value, " ".join((kind, " and ".join(bounds))).strip())


def spelled(field: Field) -> str:
    """A field's name as it is typed, without dashes in front: of its own long option, else the field's."""
    names = field.option.names if field.option else ()
    long = next((name for name in names if name.startswith("--")), "")
    return long.partition("/")[0].lstrip("-").replace("-", "_") or field.name


def bad_option(name: str, value: object, expected: str) -> InputError:
    """The error of an option whose value cannot be used."""
    return InputError(f"the option {name} is {value!r}", expected=expected)


def choices_of(kind: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, or of a union of nothing but those and None; else none."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        members = [choices_of(member) for member in get_args(kind) if member is not type(None)]
        return tuple(value for member in members for value in member) if all(members) else ()
    return ()


def item_of(kind: Any) -> Any:
    """What a ``tuple[X, ...]`` or an optional one holds; None for other types."""
    tuples = [get_args(member) for member in (kind, *get_args(kind)) if get_origin(member) is tuple]
    return tuples[0][0] if tuples else None


def optional(kind: Any) -> bool:
    """Whether a type allows None."""
    return get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def parse_size(option: str, text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` as (height, width) [px]."""
    found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip(), re.ASCII)
    if not found:
        raise InputError(
            f"{option} {text!r}", expected="height x width in pixels", fix=f"write {option} 192x256"
        )
    return int(found[1]), int(found[2])


def parse_device(option: str, text: str) -> str:
    """A device's name; of devices that other software knows it says what is possible here."""
    if text in get_args(Device):
        return text
    name, _, number = text.lower().partition(":")
    if name == "cuda" and number.isdigit():
        fix = f"set CUDA_VISIBLE_DEVICES={number} in the environment: the device cuda is then that GPU"
    elif name in ("gpu", "nvidia", "tensorrt"):
        fix = "cuda is an NVIDIA GPU; no other kind of GPU is run on"
    elif name in ("mps", "metal", "coreml", "xpu", "intel", "npu", "rocm", "hip", "dml", "directml"):
        fix = "no backend here runs on that hardware: leave the option out, the CPU backends work"
    else:
        fix = ""
    raise InputError(
        f"the option {option.lstrip('-')} is {text!r}", expected="one of auto, cpu, cuda", fix=fix
    )


def parse_words(option: str, text: str) -> tuple[str, ...]:
    """The words of a text that are separated by commas, each once."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise InputError(f"{option} {text!r}", expected="at least one word, or the option left out")
    return words


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Finite numbers separated by commas."""
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text!r}", expected="numbers separated by commas") from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{option} {text!r}", expected="finite numbers separated by commas")
    return numbers


def parse_whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    numbers = parse_numbers(option, text)
    if any(number != int(number) for number in numbers):
        raise InputError(f"{option} {text!r}", expected="whole numbers separated by commas")
    return tuple(map(int, numbers))


def _by_x(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _by_comma(values: tuple[Any, ...]) -> str:
    return ",".join(map(str, values))


SIZE = Reader(parse_size, _by_x)
SIZES = Reader(
    lambda option, text: tuple(parse_size(option, size) for size in text.split(",")),
    lambda sizes: ",".join(map(_by_x, sizes)),
    several=True,
)
WORDS = Reader(parse_words, _by_comma, several=True)
WHOLE_NUMBERS = Reader(parse_whole_numbers, _by_comma, several=True)

# Options that several commands share.
Threads = Annotated[
    int | None,
    Option("Threads within one operator [default: the backend's].", panel=ADVANCED, least=1),
]
DeviceOption = Annotated[
    Device,
    Option(
        "Where to run; auto takes the GPU where the backend finds one.",
        metavar="auto|cpu|cuda",
        reader=Reader(parse_device),
    ),
]
Offline = Annotated[bool, Option("Use the hub's cache only.", panel=ADVANCED)]
