"""Commands are run in this process, as their entry points would run them, unless a test needs a process."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs ``glpn-<name> arguments…`` and returns exit status, standard output and standard error."""

    def call(name: str, *arguments: object) -> Result:
        main = importlib.import_module(f"glpn_deploy.cli.{name}").main
        monkeypatch.setattr(sys, "argv", [f"glpn-{name}", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Result(status, captured.out, captured.err)

    handler = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # commands print them
        yield call
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, handler)
