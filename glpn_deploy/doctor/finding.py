"""One thing that `glpn-doctor` looked at, and how commands of the system are asked."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Literal

Status = Literal["ok", "missing", "warning"]
Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command and gives what it printed; None where there is no such command, or it failed."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: ``ok``, ``missing`` (something does not run without it) or ``warning``.
        fix: The line that mends it, or nothing.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def run_command(command: Sequence[str]) -> str | None:
    """Runs a command of the system for at most 20 s."""
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run([path, *command[1:]], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout
