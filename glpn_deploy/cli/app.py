"""What every command shares: errors as sentences, exit statuses, progress on a terminal, JSON."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from glpn_deploy import progress
from glpn_deploy.errors import GlpnError
from glpn_deploy.progress import Step

FAILED = 1  # a check failed, or the machine could not; 0 is done, 2 wrong use


def command(function: Callable[..., None]) -> Callable[[], None]:
    """Makes an entry point of a function whose parameters are typer options.

    A `GlpnError` ends as one sentence and its exit status, Ctrl-C and SIGTERM as status 1 after the
    ``finally`` blocks have run, a full disk or missing memory as a sentence; none shows a traceback.
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            contextvars.copy_context().run(function, *args, **kwargs)  # what it shows ends with it
            return
        except GlpnError as error:
            status, message = error.exit_code, str(error)
        except KeyboardInterrupt:
            status, message = FAILED, "interrupted; nothing unfinished was left behind."
        except BrokenPipeError:
            # The reader (head, less) has gone: stop quietly, and keep Python from flushing into the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except MemoryError:
            status, message = FAILED, "the machine ran out of memory; use a smaller image, batch or model."
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            status, message = FAILED, f"the operating system refused: {error.strerror or error}{where}."
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
        raise typer.Exit(status)

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # "[m]" in a help text is a unit, not markup
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(guarded)

    def main() -> None:
        warnings.showwarning = _show_warning
        signal.signal(signal.SIGTERM, _stop)
        app()

    return main


def _stop(number: int, frame: Any) -> NoReturn:
    """SIGTERM ends as Ctrl-C does, also where a shell started this with SIGINT ignored (``command &``)."""
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        Console(stderr=True, highlight=False).print(
            f"[bold yellow]warning:[/] {escape(str(message))}", soft_wrap=True
        )


def output(*, as_json: bool) -> Console:
    """Where people's lines and long work's steps go: standard output, or standard error beside JSON."""
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    progress.show(ConsoleProgress(console))
    return console


def print_json(values: dict[str, Any]) -> None:
    """Writes one JSON object to standard output."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


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
        self._terminal = Console(stderr=True)

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Shows a step while it runs and its line when it is done."""
        start = time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        bar = RichProgress(
            *columns, console=self._terminal, transient=True, disable=not self._terminal.is_terminal
        )
        with bar:
            task = bar.add_task(title, total=total, detail="")
            step = _ConsoleStep(lambda detail: bar.update(task, advance=1, detail=escape(detail)))
            yield step
        seconds = time.perf_counter() - start
        self._console.print(f"[green]✓[/] {title:<18} {seconds:6.1f} s  {escape(step.summary)}".rstrip())
