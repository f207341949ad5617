"""What a message may hold of what a file said."""

from __future__ import annotations

import pytest

from glpn_deploy.errors import ConfigError, GlpnError, printable


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
