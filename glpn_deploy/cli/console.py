"""What commands print: lines for people, steps with their time, JSON. Rich is slow to load, `app` is not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from glpn_deploy import progress
from glpn_deploy.errors import printable
from glpn_deploy.progress import Step


class PlainConsole(Console):
    """Shows text as it is: no control characters from names and files, no emoji for ``:cat:``.

    Markup is read, since our own lines have it; what comes from names and files goes through `escape`, or is
    printed with ``markup=False``.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed comes by here, cells of tables too."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def complain(color: str, kind: str, message: str) -> None:
    """One line to standard error: an error's or a warning's."""
    console = PlainConsole(stderr=True)
    console.print(f"[bold {color}]{kind}:[/] {escape(message)}", soft_wrap=True)


def output(*, as_json: bool) -> Console:
    """Where people's lines and long work's steps go: standard output, or standard error beside JSON."""
    console = PlainConsole(stderr=as_json, soft_wrap=True)
    progress.show(ConsoleProgress(console))
    return console


def print_json(values: dict[str, Any]) -> None:
    """Writes one JSON object to standard output."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def runnable(name: str) -> str:
    """A command's name as this shell runs it: with the environment's folder where that is not on the path.

    Args:
        name: ``glpn-predict`` and so on.
    """
    folder, found = Path(sys.executable).parent, shutil.which(name)
    if found and Path(found).parent == folder:
        return name
    script = shutil.which(name, path=str(folder))
    if script is None:  # run from a folder that nobody installed
        return f"{sys.executable} -m glpn_deploy {name.removeprefix('glpn-')}"
    near = os.path.relpath(script)
    return script if near.startswith("..") else near


def say_why(console: Console, why: str) -> None:
    """Why this backend or precision, where it was not asked for."""
    if why:
        console.print(f"  {why}", style="dim", markup=False)


class _ConsoleStep:
    def __init__(self, advance: Callable[[str], None]) -> None:
        self._advance = advance
        self.summary = ""

    def advance(self, detail: str = "") -> None:
        """Moves the bar."""
        self._advance(detail)

    def finish(self, summary: str) -> None:
        """Keeps what the step's line says."""
        self.summary = summary


class ConsoleProgress:
    """One line a step with its time; a moving bar while it runs where standard error is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._terminal = PlainConsole(stderr=True)

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Shows a step while it runs and its line when it is done."""
        start = time.perf_counter()
        known = total is not None
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *((BarColumn(), MofNCompleteColumn()) if known else ()),
            TimeElapsedColumn(),
            *((TimeRemainingColumn(),) if known else ()),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        bar = RichProgress(
            *columns, console=self._terminal, transient=True, disable=not self._terminal.is_terminal
        )
        with bar:
            task = bar.add_task(title, total=total, detail="")
            step = _ConsoleStep(lambda detail: bar.update(task, advance=1, detail=escape(printable(detail))))
            yield step
        seconds = time.perf_counter() - start
        self._console.print(f"[green]✓[/] {title:<18} {seconds:6.1f} s  {escape(step.summary)}".rstrip())
