"""glpn: every command under one name; ``glpn export`` is ``glpn-export``."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import textwrap
from pathlib import Path

COMMANDS = (
    *("export", "predict", "batch", "serve", "verify", "build", "bench", "compare", "eval", "train"),
    "doctor",
)


def main() -> None:
    """Runs the command named by the first argument, or lists them all; unknown ones end with status 2."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        try:
            print(_help(), flush=True)
        except BrokenPipeError:  # the reader (head, less) has gone; Python flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif name == "--version":
        from glpn_deploy import __version__

        print(f"glpn-deploy {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"glpn {name}", *arguments]
        importlib.import_module(f"glpn_deploy.cli.{name}").main(f"glpn {name}")
    else:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"; did you mean glpn {near[0]}" if near else ""
        from glpn_deploy.cli.console import complain

        complain("red", "error", f"glpn has no command {name}; expected one of {', '.join(COMMANDS)}{meant}.")
        sys.exit(2)


def _help() -> str:
    lines = [
        textwrap.fill(f"  {name:<9} {_about(name)}", 80, subsequent_indent=" " * 12) for name in COMMANDS
    ]
    return "\n".join(
        (
            "Usage: glpn COMMAND ...",
            "",
            "  GLPN monocular depth, from a checkpoint onto any machine.",
            "",
            "Commands (each also as glpn-COMMAND):",
            *lines,
            "",
            "Options:",
            "  --version   Show the version.",
            "  -h, --help  Show this message; glpn COMMAND --help shows a command's.",
            "",
            "Example: glpn export vinvino02/glpn-nyu glpn-nyu",
        )
    )


def _about(name: str) -> str:
    """What a command does: its file's first line, read, since importing them all takes longer."""
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').partition(": ")[2]


if __name__ == "__main__":
    main()
