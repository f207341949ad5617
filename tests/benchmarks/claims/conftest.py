"""Commands that measure claims, run in this process."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable

import pytest


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command's entry point with words, and gives the status."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back after the test

    def run(main: Callable[[], None], *words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["claim", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run
