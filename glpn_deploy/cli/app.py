"""What every command shares: options, help, errors as sentences, exit statuses."""

from __future__ import annotations

import codecs
import contextvars
import functools
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from glpn_deploy.cli.derived import derived, note_former
from glpn_deploy.errors import GlpnError
from glpn_deploy.options import ADVANCED, COMMON

_ASCII = {"✓": "ok", "✗": "x", "→": "->", "×": "x", "…": "...", "·": "*", "—": "-", "–": "-", "²": "2"}
# Newer typers have a click of their own.
_CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
FAILED = 1  # a check failed, or the machine could not; 0 is done, 2 wrong use


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Makes an entry point of a function whose parameters are Typer's, or dataclasses of options (`derived`).

    A `GlpnError` ends as one sentence and its exit status, Ctrl-C and SIGTERM as status 1 after the
    ``finally`` blocks have run, a full disk or missing memory as a sentence; none shows a traceback.
    The entry point may be given the name that its help shows.
    """

    call = derived(function)

    @functools.wraps(call)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            contextvars.copy_context().run(call, *args, **kwargs)  # what it shows ends with it
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
        from glpn_deploy.cli.console import complain

        complain("red", "error", message)
        raise typer.Exit(status)

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # "[m]" in a help text is a unit, not markup
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    words = {name: call.__dict__[name] for name in ("former", "instead", "shorthands")}
    kind: type[TyperCommand] = type("Command", (_Command,), words)
    app.command(cls=kind)(guarded)

    def main(name: str | None = None) -> None:
        _write_any_character()
        warnings.showwarning = _show_warning
        signal.signal(signal.SIGTERM, _stop)
        app(prog_name=name)

    return main


def _write_any_character() -> None:
    """Spells in ASCII what the console's or pipe's encoding lacks, as Windows' cp1252 does check marks."""
    codecs.register_error("glpn_ascii", _spelled_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="glpn_ascii")


def _spelled_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    escaped = (character.encode("ascii", "backslashreplace").decode() for character in characters)
    spelled = (_ASCII.get(character) or plain for character, plain in zip(characters, escaped, strict=True))
    return "".join(spelled), error.end


class _Command(TyperCommand):
    """Shows options under their panels, which Typer does only with Rich, at twice the time.

    Wrong use ends as every other error does. Former names of options are taken, with a note.
    """

    former: Mapping[str, str]
    instead: Mapping[str, str]
    shorthands: Mapping[str, tuple[str, str]]

    def make_context(self, info_name: str | None, *args: Any, **kwargs: Any) -> Any:
        """Reads the arguments."""
        try:
            return super().make_context(info_name, *args, **kwargs)
        except _CLICK_ERROR as error:
            from glpn_deploy.cli.console import complain

            said = re.sub(r" \(Possible options: (.*)\)", r"; did you mean \1", error.format_message())
            said = re.sub(r"\.? Did you mean (.*)\?", r"; did you mean \1", said).rstrip(".")
            said = said.replace(": Value error, ", ": ")  # typer's own word for what choices say
            said = f"{said[:1].lower()}{said[1:]}"
            complain("red", "error", f"{said}; {info_name} --help lists what it takes.")
            raise typer.Exit(error.exit_code) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts today's names in the place of former ones."""
        words = iter(args)
        read: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            if name in self.former:
                note_former(name, self.former[name])
                word = f"{self.former[name]}{equals}{value}"
            if name in self.instead:
                note_former(name, self.instead[name])
            read += self.shorthands.get(word, (word,))
            if word == "--":
                read += words
        return super().parse_args(ctx, read)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line without what is hidden."""
        shown = [parameter for parameter in self.get_params(ctx) if not getattr(parameter, "hidden", False)]
        return ["[OPTIONS]", *(piece for parameter in shown for piece in parameter.get_usage_pieces(ctx))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then what most people need; the advanced options last."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], COMMON: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                panel = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or COMMON
                panels.setdefault(panel, []).append(record)
        for panel in sorted(panels, key=lambda panel: panel == ADVANCED):
            if panels[panel]:
                with formatter.section(panel):
                    formatter.write_dl(panels[panel])


def _stop(number: int, frame: Any) -> NoReturn:
    """SIGTERM ends as Ctrl-C does, also where a shell started this with SIGINT ignored (``command &``)."""
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        from glpn_deploy.cli.console import complain

        complain("yellow", "warning", str(message))
