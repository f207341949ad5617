"""Commands derived from options: a parameter that is a dataclass of options becomes the command's options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from glpn_deploy.options import (
    Field,
    Only,
    Option,
    choices_of,
    declared,
    item_of,
    optional,
    read_field,
    spelled,
)


def derived(function: Callable[..., None]) -> Callable[..., None]:
    """The function as Typer takes it: every `Option` as an option, those of dataclasses field by field.

    A parameter ``options: RuntimeOptions`` gives the command an option for every field that has an `Option`,
    and the function gets the dataclass made of what was typed. ``partial[RuntimeOptions]`` hands over the
    class with what was typed, for a function that adds fields of its own. A parameter with an `Option` is an
    option that the command alone knows; others are Typer's. The result's attribute ``former`` holds former
    names of options, and what they are called now; ``instead`` options that are taken and not shown, and what
    is typed today; ``shorthands`` what else may be typed, and the words that it stands for.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, _Group | _Single] = {}
    former: dict[str, str] = {}
    instead: dict[str, str] = {}
    shorthands: dict[str, tuple[str, str]] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        group = _group(parameter, hint)
        if group is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint))
            continue
        groups[parameter.name] = group
        for field, option in group.offered():
            parameters.append(_parameter(field, option))
            name = _dashed(spelled(field))
            for word in option.former:
                old, equals, value = word.partition("=")
                former[old] = f"{name}{equals}{value}"
            if option.instead:
                instead |= dict.fromkeys(option.names or (name,), option.instead)
            shorthands |= {_dashed(word): (name, word) for word in option.shorthands}

    _one_option_a_name(parameters)

    @functools.wraps(function)
    def call(**given: Any) -> None:
        function(
            **{
                name: groups[name].make(given) if name in groups else given[name]
                for name in hints
                if name != "return"
            }
        )

    del call.__dict__["__wrapped__"]  # Typer reads the signature below
    call.__dict__["__signature__"] = inspect.Signature(parameters)
    call.__dict__.update(former=former, instead=instead, shorthands=shorthands)
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _group(parameter: inspect.Parameter, hint: Any) -> _Group | _Single | None:
    """The options that a parameter stands for; None where Typer itself reads it."""
    unfinished = get_origin(hint) is functools.partial
    options = get_args(hint)[0] if unfinished else hint
    if dataclasses.is_dataclass(options):
        return _Group(options, unfinished=unfinished)
    default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
    field = read_field(parameter.name, hint, default)
    return None if field.option is None else _Single(field)


def option_names(options: Any) -> set[str]:
    """What commands call the fields of a dataclass of options, without dashes in front."""
    return {spelled(field) for field, _ in _Group(options).offered()}


def _one_option_a_name(parameters: list[inspect.Parameter]) -> None:
    """Takes an option's second name away where another option is called so (``--max-depth`` of glpn-eval).

    Typer keeps the first name elsewhere.
    """
    taken = {_dashed(parameter.name) for parameter in parameters}
    for parameter in parameters:
        for info in get_args(parameter.annotation)[1:]:
            if isinstance(info, OptionInfo) and info.param_decls:
                info.param_decls = tuple(name for name in info.param_decls if name not in taken)


@dataclasses.dataclass(frozen=True)
class _Group:
    """A dataclass of options among a command's parameters."""

    options: Any
    only: Only | None = None
    unfinished: bool = False

    def offered(self) -> Iterator[tuple[Field, Option]]:
        """Every field that is offered, those of fields that are dataclasses of options included."""
        for field in self._fields():
            if field.option is not None:
                yield field, field.option
            else:
                yield from _Group(field.type, field.only).offered()

    def make(self, given: dict[str, Any]) -> Any:
        """The dataclass of what was typed."""
        values = {}
        for field in self._fields():
            if field.option is None:
                values[field.name] = _Group(field.type, field.only).make(given)
            else:
                value = _value(field, given[spelled(field)])
                if value is not None or field.default is dataclasses.MISSING:
                    values[field.name] = value
        return functools.partial(self.options, **values) if self.unfinished else self.options(**values)

    def _fields(self) -> Iterator[Field]:
        for field in declared(self.options):
            own = field.option is not None and not field.option.hidden
            if (own or dataclasses.is_dataclass(field.type)) and (
                self.only is None or field.name in self.only.fields
            ):
                yield field


@dataclasses.dataclass(frozen=True)
class _Single:
    """A parameter that is an option by itself."""

    field: Field

    def offered(self) -> Iterator[tuple[Field, Option]]:
        """The one."""
        assert self.field.option is not None
        yield self.field, self.field.option

    def make(self, given: dict[str, Any]) -> Any:
        """Its value."""
        value = _value(self.field, given[spelled(self.field)])
        return self.field.default if value is None else value


def _parameter(field: Field, option: Option) -> inspect.Parameter:
    default = field.default
    kind, metavar = field.type, option.metavar
    if option.reader is not None:
        kind = list[str] if option.reader.several else option.typed
        metavar = metavar or ("A,B" if option.reader.several else None)
        if default not in (None, dataclasses.MISSING):
            default = option.reader.show(default)
            default = None if default == "" else [default] if option.reader.several else default
    elif item_of(kind) is not None:
        choices = choices_of(item_of(kind))  # which Typer does not take in lists; the dataclass checks them
        metavar = metavar or ("|".join(choices) if choices else None)
        kind, default = list[str if choices else item_of(kind)], default or None  # type: ignore[misc]
    elif choices_of(kind):
        kind = _literal(kind)
    if option.instead:
        default = None
    if default is None and not optional(kind):
        kind = kind | None
    names = option.names
    if not names and field.default is False:
        names = (_dashed(field.name),)  # without it Typer adds --no-...
    info = (
        typer.Argument(help=option.help, metavar=metavar)
        if option.argument
        else typer.Option(
            *names,
            help=option.help or None,
            hidden=bool(option.instead),
            metavar=metavar,
            min=None if option.reader else option.least,
            max=None if option.reader else option.most,
            rich_help_panel=option.panel,
        )
    )
    return inspect.Parameter(
        spelled(field),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
        annotation=Annotated[kind, info],
    )


def _value(field: Field, given: Any) -> Any:
    """A field's value of what was typed; None where nothing was."""
    assert field.option is not None
    reader, long = field.option.reader, _dashed(spelled(field))
    if given is None or reader is None:
        return tuple(given) if isinstance(given, list) else given
    if reader.several:
        return reader.read(long, ",".join(given)) if given else None
    return reader.read(long, given)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def note_former(old: str, now: str) -> None:
    """Says what an option is called now, or what is typed instead of it."""
    warnings.warn(f"{old} is {now} now; the old spelling goes with the next release", stacklevel=2)


def _literal(kind: Any) -> Any:
    """One `Literal` of a union of them: Typer knows no unions."""
    found = Literal[choices_of(kind)]  # type: ignore[valid-type]
    return found | None if optional(kind) else found
