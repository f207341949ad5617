"""What the declarations say is what is taken; everything else is named by its field."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glpn_deploy.decoding import (
    REQUIRED,
    Document,
    FieldError,
    ReadBy,
    count,
    decode,
    printable,
    shown,
    within,
)
from glpn_deploy.errors import BundleError, InputError


@dataclasses.dataclass(frozen=True)
class Part:
    name: Annotated[str, printable(r"[a-z]+", "small letters", most=5)]
    weight: Annotated[float, within(0, 100)] = 1.0

    def __post_init__(self) -> None:
        if self.name == "no":
            raise InputError("a part called no", expected="another name")


class Entry(TypedDict):
    size: int


def celsius(value: Any) -> float:
    if value != "0 K":
        raise InputError(f"a temperature of {value!r}", expected="0 K")
    return -273.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    kind: Literal["a", "b", 1]
    parts: Annotated[tuple[Part, ...], count(1, 2)]
    shape: tuple[int, int] = (1, 2)
    rounds: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    files: dict[str, Entry] = dataclasses.field(default_factory=dict)
    flag: bool | None = None
    rest: Any = None
    where: Annotated[str, printable()] = dataclasses.field(default="here", metadata=REQUIRED)
    cold: Annotated[float, ReadBy(celsius)] = 0.0


PLAIN = {"kind": "a", "parts": [{"name": "x"}], "where": "there"}
DOCUMENT = Document(into=Whole, what="a whole", name="whole", version=2, error=BundleError)


def test_what_is_declared_is_taken():
    given_values = {
        **PLAIN,
        "parts": [{"name": "x", "weight": 2, "later": 1}],
        "shape": [3, 4],
        "rounds": {"-1": [], "0": [1, 2.5]},
        "files": {"f": {"size": 3, "later": 1}},
        "flag": True,
        "rest": {"deep": [1, "x", None]},
        "cold": "0 K",
        "later": 1,
    }
    assert decode(Whole, json.loads(json.dumps(given_values))) == Whole(
        kind="a",
        parts=(Part("x", 2.0),),
        shape=(3, 4),
        rounds={-1: [], 0: [1.0, 2.5]},
        files={"f": {"size": 3}},
        flag=True,
        rest={"deep": [1, "x", None]},
        where="there",
        cold=-273.15,
    )
    assert isinstance(decode(Part, {"name": "x", "weight": 2}).weight, float)


@pytest.mark.parametrize(
    ("change", "got", "expected"),
    [
        ({"kind": "c"}, "kind is 'c'", "one of a, b, 1"),
        ({"kind": True}, "kind is true", "one of a, b, 1"),  # which equals 1 in Python
        ({"parts": None}, "parts is null", "a list"),
        ({"parts": []}, "parts is a list", "1 to 2 entries"),
        ({"parts": [3]}, "parts[0] is 3", "an object"),
        ({"parts": [{}]}, "parts[0].name is missing", ""),
        ({"parts": [{"name": "X"}]}, "parts[0].name is 'X'", "small letters of at most 5 characters"),
        (
            {"parts": [{"name": "abcdef"}]},
            "parts[0].name is 'abcdef'",
            "small letters of at most 5 character",
        ),
        ({"parts": [{"name": "a\n"}]}, "parts[0].name is 'a\\n'", "small letters"),
        ({"parts": [{"name": "no"}]}, "parts[0] is not valid: a part called no", "another name"),
        ({"parts": [{"name": "x", "weight": -1}]}, "parts[0].weight is -1", "0 to 100"),
        ({"parts": [{"name": "x", "weight": float("nan")}]}, "parts[0].weight is nan", "a finite number"),
        ({"parts": [{"name": "x", "weight": 10**400}]}, "is a number beyond 64 bits", "a finite number"),
        ({"parts": [{"name": "x", "weight": False}]}, "parts[0].weight is false", "a finite number"),
        ({"shape": [1]}, "shape is a list", "a list of 2"),
        ({"shape": [1, 2.0]}, "shape[1] is 2.0", "a whole number"),
        ({"shape": [1, True]}, "shape[1] is true", "a whole number"),
        ({"rounds": {"a": []}}, "the key rounds['a'] is 'a'", "a whole number"),
        ({"rounds": {"1": [None]}}, "rounds['1'][0] is null", "a finite number"),
        ({"files": {"f": {}}}, "files['f'].size is missing", ""),
        ({"files": {"f": 1}}, "files['f'] is 1", "an object"),
        ({"flag": 1}, "flag is 1", "true or false"),
        ({"rest": {"a": [float("inf")]}}, "rest['a'][0] is inf", "a finite number"),
        ({"rest": 10**400}, "rest is a number beyond 64 bits", "a whole number"),
        ({"where": "\x1b[2J"}, "where is '\\x1b[2J'", "printable text"),
        ({"cold": 1}, "cold is not valid: a temperature of 1", "0 K"),
    ],
)
def test_a_refusal_names_field_value_and_what_is_valid(change, got, expected):
    with pytest.raises(FieldError) as refused:
        decode(Whole, {**PLAIN, **change})
    assert got in refused.value.got
    assert refused.value.expected.startswith(expected)


@pytest.mark.parametrize("name", ["kind", "parts", "where"])
def test_what_must_be_there(name):
    with pytest.raises(FieldError) as refused:
        decode(Whole, {key: value for key, value in PLAIN.items() if key != name})
    assert refused.value.got == f"{name} is missing"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff", "it is not JSON"),
        ("[]", "is not a whole"),
        ("{}", "is not a whole"),
        ('{"format": "other", "format_version": 1}', "is not a whole"),
        ('{"format": "whole", "format_version": true}', "is not a whole"),
        ('{"format": "whole", "format_version": 0}', "is not a whole"),
        ('{"format": "whole", "format_version": 3}', "has format version 3"),
        (
            '{"format": "whole", "format_version": 1' + "0" * 400 + "}",
            "format version a number beyond 64 bits",
        ),
        ('{"format": "whole", "format_version": 2}', "is damaged: kind is missing"),
    ],
)
def test_a_document_is_refused_by_its_own_error(text, words):
    with pytest.raises(BundleError) as refused:
        DOCUMENT.read(text, "x.json", "copy it again")
    assert refused.value.got.startswith("x.json ")
    assert words in refused.value.got


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)
)
def test_a_shown_value_is_one_short_printable_line(value):
    assert shown(value).isprintable()
    assert len(shown(value)) < 700


@given(
    st.sampled_from([field.name for field in dataclasses.fields(Whole)]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=6,
    ),
)
def test_anything_is_taken_or_refused(name, value):
    with contextlib.suppress(FieldError):
        whole = decode(Whole, {**PLAIN, name: value})
        json.dumps(dataclasses.asdict(whole), allow_nan=False)
