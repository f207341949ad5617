"""What the commands here share: options, commands run as users run them, and progress as lines."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.errors import BackendError


@dataclasses.dataclass(frozen=True)
class FigureOptions:
    """What a section of the figures is given.

    Attributes:
        folder: For what is written meanwhile; empty.
        optimum: A Python that has Optimum, and NNCF for ``cpu_peers``; None for this one.
    """

    folder: Path
    optimum: str | None = None


def run_command(name: str, *arguments: str | Path) -> str:
    """Runs ``glpn-NAME`` in a process of its own and returns what it prints.

    Raises:
        BackendError: It failed.
    """
    program = f"from glpn_deploy.cli.{name} import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"glpn-{name} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


class StepLines:
    """Progress as lines on standard error, one when a step ends."""

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[_StepLine]:
        """A step whose end is printed."""
        line, begin = _StepLine(), time.perf_counter()
        yield line
        print(f"{title}: {line.summary} ({time.perf_counter() - begin:.1f} s)", file=sys.stderr, flush=True)


class _StepLine:
    summary = "done"

    def advance(self, detail: str = "") -> None:
        """Only what is done is shown."""

    def finish(self, summary: str) -> None:
        self.summary = summary

    fail = warn = finish
