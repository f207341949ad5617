"""What every error says, and what a message may hold of what a file said."""

from __future__ import annotations

import pickle

import pytest

from glpn_deploy import errors
from glpn_deploy.errors import ConfigError, GlpnError, printable
from tests.refusals import refused

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GlpnError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_what_came_what_was_expected_and_what_to_do(kind):
    error = kind("the file 'x' is empty.", expected="an image", fix="run glpn-export 'y'.")
    assert str(error) == "the file 'x' is empty; expected an image; run glpn-export 'y'."
    assert str(kind("it is closed", fix="load it again")) == "it is closed; load it again."
    assert str(kind("it is closed")) == "it is closed."
    assert (error.got, error.expected, error.fix) == (
        "the file 'x' is empty.",
        "an image",
        "run glpn-export 'y'.",
    )
    assert error.exit_code in (1, 2)
    brought = pickle.loads(pickle.dumps(error))  # by a worker
    assert (type(brought), str(brought), brought.fix) == (kind, str(error), error.fix)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\x00\x7f\x9b", r"a\nb\x00\x7f\x9b"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("a\udcffb", r"a\udcffb"),
        ("Grüße 写真 👩\u200d🔬 [x] :cat: a\\b", "Grüße 写真 👩\u200d🔬 [x] :cat: a\\b"),
    ],
)
def test_a_terminal_is_not_commanded(text, shown):
    assert printable(text) == shown
    error = GlpnError(f"it says {text}", expected=text, fix=text)
    assert error.got == f"it says {shown}"
    assert str(error) == f"it says {shown}; expected {shown}; {shown}."


def test_little_is_quoted_of_much():
    error = ConfigError(f"config value x = {'y' * 10**6!r}", expected="z" * 10**6)
    assert len(str(error)) < 1300
    assert error.got.startswith("config value x = 'yyy")
    assert error.got.endswith("yyy'")


def test_an_error_wrapped_again_is_not_escaped_twice():
    inner = GlpnError("it says \x1b")
    assert GlpnError(f"x: {inner.got}").got == r"x: it says \x1b"


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": GlpnError},  # a subclass is another error
        {"got": "expected b"},
        {"got": ("x", "a")},  # in another order
        {"expected": "a"},
        {"fix": "x"},
    ],
)
def test_the_tests_own_helper_fails_where_an_error_is_another(asked):
    def fail():
        raise ConfigError("a is x", expected="b")

    with refused(ConfigError, got=("a", "x"), expected="b"):
        fail()
    with pytest.raises(AssertionError), refused(asked.pop("kind", ConfigError), **asked):
        fail()
