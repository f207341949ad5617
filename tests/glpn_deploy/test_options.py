"""Options declared once: choices and bounds from the annotations, checked whatever makes the dataclass."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pytest

from glpn_deploy.errors import InputError
from glpn_deploy.options import SIZES, WHOLE_NUMBERS, WORDS, Option, check_options, declared

if TYPE_CHECKING:
    from torch import Tensor as Heavy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    color: Annotated[Literal["red", "blue"] | None, Option("Its color.")] = None
    colors: Annotated[tuple[Literal["red", "blue"], ...], Option("More.")] = ()
    count: Annotated[int, Option("How many.", least=1, most=9)] = 1
    share: Annotated[float | None, Option("A part.", names=("-s", "--part"), above=0, below=1)] = None
    place: Path | None = None
    heavy: Heavy | None = None

    def __post_init__(self) -> None:
        check_options(self)


def test_what_fits_passes():
    Given(color="red", colors=("red", "blue"), count=9, share=0.5, heavy=object())
    Given()


@pytest.mark.parametrize(
    ("values", "got", "expected"),
    [
        ({"color": "green"}, "the option color is 'green'", "one of red, blue"),
        ({"colors": ("red", "green")}, "the option colors is 'green'", "one of red, blue"),
        ({"count": 0}, "the option count is 0", "a whole number at least 1 and at most 9"),
        ({"count": 10}, "the option count is 10", "a whole number at least 1 and at most 9"),
        ({"count": 1.0}, "the option count is 1.0", "a whole number at least 1 and at most 9"),
        ({"share": 0.0}, "the option part is 0.0", "a finite number above 0 and below 1"),
        ({"share": 1}, "the option part is 1", "a finite number above 0 and below 1"),
        ({"share": math.nan}, "the option part is nan", "a finite number above 0 and below 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(values, got, expected):
    with pytest.raises(InputError) as caught:
        Given(**values)
    assert (caught.value.got, caught.value.expected) == (got, expected)


def test_a_field_that_is_not_offered_may_have_a_type_for_type_checkers_alone():
    assert [field.name for field in declared(Given) if field.option is None] == ["place", "heavy"]


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (SIZES, "480x640,96x128", ((480, 640), (96, 128))),
        (WORDS, "a,b", ("a", "b")),
        (WHOLE_NUMBERS, "1,4", (1, 4)),
    ],
)
def test_readers_read_what_they_show(reader, text, value):
    assert reader.read("--x", text) == value
    assert reader.show(value) == text


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (SIZES, "480"),
        (WHOLE_NUMBERS, "a"),
        (WHOLE_NUMBERS, "nan"),
        (WHOLE_NUMBERS, "1.5"),
        (WORDS, ""),
        (WORDS, " , "),
    ],
)
def test_readers_name_the_option(reader, text):
    with pytest.raises(InputError) as caught:
        reader.read("--x", text)
    assert caught.value.got == f"--x {text!r}"
