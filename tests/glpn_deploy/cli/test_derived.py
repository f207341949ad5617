"""Commands derived from options: names, defaults and help are the dataclass's; what is typed gets there."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pytest

from glpn_deploy.cli.app import command
from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, SIZE, WORDS, Only, Option, check_options
from glpn_deploy.precisions import Precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    speed: Annotated[float, Option("How fast.", above=0)] = 1.0
    hidden: Annotated[int, Option(least=0, hidden=True)] = 3
    other: Annotated[bool, Option("Not offered here.")] = False

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Annotated[Literal["a", "b"], Option("Which.", argument=True)]
    size: Annotated[tuple[int, int], Option("How large.", reader=SIZE, metavar="HxW")] = (2, 3)
    files: Annotated[tuple[Path, ...], Option("Which files.", names=("--file",))] = ()
    fast: Annotated[bool, Option("Fast.", panel=ADVANCED)] = False
    checked: Annotated[bool, Option("Checked.")] = True
    inner: Annotated[Inner, Only(("speed",))] = Inner()
    secret: str = "kept"


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs a command with words; gives what its function got, the status and what was printed."""

    def call(function_of, *words):
        got = []
        monkeypatch.setattr(sys, "argv", ["glpn-x", *words])
        with pytest.raises(SystemExit) as end:
            command(function_of(got))("glpn-x")
        printed = capsys.readouterr()
        return got, end.value.code or 0, printed.out + printed.err

    return call


def taking_all(got):
    def function(options: Outer, more: Annotated[int, Option("More.")] = 7) -> None:
        got.append((options, more))

    return function


def test_defaults_are_the_dataclass_s(typed):
    assert typed(taking_all, "a") == ([(Outer(kind="a"), 7)], 0, "")


def test_what_is_typed_arrives(typed):
    words = ["b", "--size", "4x5", "--file", "x", "--file", "y", "--fast", "--no-checked", "--speed", "2"]
    ((options, more),), status, _ = typed(taking_all, *words, "--more", "8")
    wanted = Outer(
        kind="b",
        size=(4, 5),
        files=(Path("x"), Path("y")),
        fast=True,
        checked=False,
        inner=Inner(speed=2.0),
    )
    assert (options, more, status) == (wanted, 8, 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "--speed", "0"], "the option speed is 0.0; expected a finite number above 0."),
        (["a", "--size", "4"], "--size '4'; expected height x width in pixels; write --size 192x256."),
        (["c"], ": 'c' is not one of 'a', 'b'"),
        (["a", "--other"], "no such option"),
        (["a", "--hidden", "1"], "no such option"),
        (["a", "--secret", "x"], "no such option"),
    ],
)
def test_wrong_use(typed, words, says):
    got, status, printed = typed(taking_all, *words)
    assert (got, status) == ([], 2)
    assert says in printed


def test_help_has_panels_and_the_advanced_one_last(typed):
    _, status, printed = typed(taking_all, "--help")
    assert status == 0
    places = [
        printed.index(word) for word in ("Arguments:", "Which.", "Options:", "--more", "Advanced:", "--fast")
    ]
    assert places == sorted(places)
    for text in ("HxW", "[default: 2x3]", "--checked / --no-checked", "--file", "How fast.  [default: 1.0]"):
        assert text in printed
    for text in ("--no-fast", "--other", "--hidden", "--secret"):
        assert text not in printed


def test_a_function_may_complete_the_options(typed):
    def completing(got):
        def function(options: partial[Inner]) -> None:
            got.append(options(hidden=9))

        return function

    assert typed(completing, "--speed", "3") == ([Inner(speed=3.0, hidden=9)], 0, "")


def test_errors_are_input_errors():
    with pytest.raises(InputError):
        Inner(speed=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renamed:
    precisions: Annotated[
        tuple[Precision, ...],
        Option(
            "Which.",
            names=("--precision",),
            former=("--kinds",),
            reader=WORDS,
            shorthands=("fp16",),
        ),
    ] = ("fp32",)
    rest: Annotated[str, Option("Gone.", instead="--precision int8+bf16")] = "none"

    def __post_init__(self) -> None:
        check_options(self)


def taking_renamed(got):
    def function(
        options: Renamed, place: Annotated[str, Option("Where.", former=("--path",))] = "here"
    ) -> None:
        got.append((options.precisions, options.rest, place))

    return function


@pytest.mark.parametrize(
    ("words", "precisions"),
    [
        ([], ("fp32",)),
        (["--precision", "fp16,int8"], ("fp16", "int8")),
        (["--precision", "int8", "--precision", "fp16,int8"], ("int8", "fp16")),
        (["--fp16"], ("fp16",)),
        (["--precision=bf16", "--fp16"], ("bf16", "fp16")),
    ],
)
def test_several_values_by_commas_repeats_and_shorthands(typed, words, precisions):
    assert typed(taking_renamed, *words) == ([(precisions, "none", "here")], 0, "")


@pytest.mark.parametrize(
    ("words", "got", "note"),
    [
        (["--kinds", "int8"], (("int8",), "none", "here"), "--kinds is --precision now"),
        (["--kinds=int8"], (("int8",), "none", "here"), "--kinds is --precision now"),
        (["--path", "there"], (("fp32",), "none", "there"), "--path is --place now"),
        (["--rest", "bf16"], (("fp32",), "bf16", "here"), "--rest is --precision int8+bf16 now"),
    ],
)
def test_former_names_are_taken_with_a_note(typed, words, got, note, monkeypatch):
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        taken, status, printed = typed(taking_renamed, *words)
    assert (taken, status, printed.count("warning:")) == ([got], 0, 1)
    assert note in printed


def test_former_names_are_not_shown(typed):
    _, _, printed = typed(taking_renamed, "--help")
    assert "--precision A,B" in printed
    for name in ("--kinds", "--path", "--rest"):
        assert name not in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--precision", "int4"], "the option precision is 'int4'; expected one of fp32"),
        (["--place"], "option '--place' requires an argument; glpn-x --help lists what it takes."),
        (["--plase", "x"], "no such option: --plase; did you mean --place; glpn-x --help lists"),
        (["x"], "got unexpected extra argument"),
    ],
)
def test_wrong_use_looks_like_every_other_error(typed, words, says):
    got, status, printed = typed(taking_renamed, *words)
    assert (got, status) == ([], 2)
    assert printed.startswith(f"error: {says}")
    assert printed.count("\n") == 1
