"""How tests say which error they expect: by its class and by the fields that tell what happened."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from glpn_deploy.errors import GlpnError

Words = str | tuple[str, ...]
"""What a field holds; several, in this order."""


@contextlib.contextmanager
def refused(
    kind: type[GlpnError], *, got: Words = "", expected: Words = "", fix: Words = ""
) -> Iterator[pytest.ExceptionInfo[GlpnError]]:
    """The block raises exactly this class, no subclass of it, and each field holds its words."""
    __tracebackhide__ = True
    with pytest.raises(kind) as caught:
        yield caught
    assert type(caught.value) is kind
    for name, words in (("got", got), ("expected", expected), ("fix", fix)):
        text, parts = getattr(caught.value, name), (words,) if isinstance(words, str) else words
        found = re.search(".*".join(map(re.escape, parts)), text, re.DOTALL)
        assert found, f"{name} is {text!r}; expected in it {parts}"
