"""What commands print: lines for people, steps with their time, JSON. Rich is slow to load, `app` is not."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column, Table
from rich.text import Text

from glpn_deploy import progress
from glpn_deploy.errors import printable
from glpn_deploy.optional import script_here
from glpn_deploy.progress import Step

_WIDE = 1000  # characters, for tables in a pipe
_TITLE = 18  # characters of a bar's title that are always seen
_SECONDS = len("✓    0.1 s  ")


class PlainConsole(Console):
    """Shows text as it is: no control characters from names and files, no emoji for ``:cat:``.

    Markup is read, since our own lines have it; what comes from names and files goes through `escape`, or is
    printed with ``markup=False``. On a terminal lines end between words, and what follows is indented; a
    command or path that is longer than the line stays whole, and so does everything in a pipe.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False, soft_wrap=True)

    def print(self, *objects: Any, hang: int = 2, **options: Any) -> None:
        """Prints; what a line's end leaves over is indented by ``hang`` more than the line."""
        if self.is_terminal and "soft_wrap" not in options and len(objects) == 1:
            if isinstance(objects[0], str):
                markup = options.get("markup", True)
                lines = self.render_str(objects[0], markup=markup).split("\n", allow_blank=True)
                objects = (Text("\n").join(part for line in lines for part in self._wrapped(line, hang)),)
            else:
                options["soft_wrap"] = False  # tables fit themselves to the terminal
        super().print(*objects, **options)

    def print_table(self, table: Table) -> None:
        """Prints a table, as wide as it is in a pipe."""
        self.print(table, width=None if self.is_terminal else _WIDE)

    def _wrapped(self, line: Text, hang: int) -> Iterator[Text]:
        """A line in pieces that fit, the first as it is and the others indented."""
        plain = line.plain
        indent = min(len(plain) - len(plain.lstrip()) + hang, self.width // 2)
        cuts: list[int] = []
        start, room = 0, self.width
        for i, word in enumerate(re.finditer(r"\S+", plain)):
            if i and cell_len(plain[start : word.end()]) > room:
                start, room = word.start(), self.width - indent
                cuts.append(start)
        for i, part in enumerate(line.divide(cuts)):
            part.rstrip()
            yield Text(" " * indent) + part if i else part

    def render_str(self, text: str, **options: Any) -> Text:
        """Every printed text passes through here, cells of tables too."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def complain(color: str, kind: str, message: str) -> None:
    """One line to standard error: an error's or a warning's."""
    PlainConsole(stderr=True).print(f"[bold {color}]{kind}:[/] {escape(message)}", hang=len(kind) + 2)


def output(*, as_json: bool, verbose: bool = False) -> PlainConsole:
    """Where people's lines and long work's steps go: standard output, or standard error beside JSON."""
    console = PlainConsole(stderr=as_json)
    progress.show(ConsoleProgress(console, verbose=verbose))
    return console


def say_next(console: PlainConsole, *commands: str, where: str = "") -> None:
    """The next commands, whole, so that they can be copied.

    Args:
        console: Where to.
        commands: What is typed.
        where: A clause on where that is.
    """
    console.print(f"\nNext{where}:")
    for words in commands:
        console.print(f"  {words}", markup=False, soft_wrap=True)


def print_json(values: dict[str, Any]) -> None:
    """Writes one JSON object to standard output."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def runnable(name: str) -> str:
    """A command's name as this shell runs it: with the environment's folder where that is not on the path.

    Args:
        name: ``glpn-predict`` and so on.
    """
    # without a script: run from a folder that nobody installed
    return script_here(name) or f"{sys.executable} -m glpn_deploy {name.removeprefix('glpn-')}"


def say_why(console: Console, why: str) -> None:
    """Why this backend or precision, where it was not asked for."""
    if why:
        console.print(f"  {why}", style="dim", markup=False)


class _IfKnown(ProgressColumn):
    """A column that steps of unknown length have not."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """The column's own, or nothing."""
        return Text() if task.total is None else self._column(task)


class _ConsoleStep:
    def __init__(self, advance: Callable[[str], None]) -> None:
        self._advance = advance
        self.summary, self.mark = "", "[green]✓[/]"

    def advance(self, detail: str = "") -> None:
        """Moves the bar."""
        self._advance(detail)

    def finish(self, summary: str) -> None:
        """Keeps what the step's line says."""
        self.summary = summary

    def fail(self, summary: str) -> None:
        """Keeps it, and marks the line."""
        self.summary, self.mark = summary, "[red]✗[/]"

    def warn(self, summary: str) -> None:
        """Likewise."""
        self.summary, self.mark = summary, "[yellow]![/]"


class ConsoleProgress:
    """One line a step, its seconds first; moving bars while it runs where standard error is a terminal.

    Args:
        console: Where the lines go.
        verbose: Show lines of steps within steps too.
    """

    def __init__(self, console: PlainConsole, *, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._terminal = PlainConsole(stderr=True)
        self._bars: RichProgress | None = None

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Shows a step while it runs and its line when it is done."""
        start = time.perf_counter()
        outer = self._bars
        with self._started() if outer is None else contextlib.nullcontext(outer) as bars:
            self._bars = bars
            task = bars.add_task(title, total=total, detail="")
            step = _ConsoleStep(lambda detail: bars.update(task, advance=1, detail=escape(printable(detail))))
            try:
                yield step
            finally:
                bars.remove_task(task)
                self._bars = outer
        if outer is None or self._verbose:
            told = f"{title}: {step.summary}" if step.summary else title
            line = f"{step.mark} {time.perf_counter() - start:6.1f} s  {escape(told)}"
            self._console.print(line, hang=_SECONDS, style=None if outer is None else "dim")

    def _started(self) -> RichProgress:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(min_width=_TITLE, no_wrap=True)),
            *map(_IfKnown, (BarColumn(), MofNCompleteColumn())),
            TimeElapsedColumn(),
            _IfKnown(TimeRemainingColumn()),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        return RichProgress(
            *columns, console=self._terminal, transient=True, disable=not self._terminal.is_terminal
        )
