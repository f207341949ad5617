"""What the sections of the figures share: their options, and commands run as users run them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

from glpn_deploy.errors import BackendError


@dataclasses.dataclass(frozen=True)
class FigureOptions:
    """What a section of the figures is given.

    Attributes:
        folder: An empty folder for temporary files.
        optimum: A Python that has Optimum, and NNCF for ``cpu_peers``; None for this one.
    """

    folder: Path
    optimum: str | None = None


def run_command(name: str, *arguments: str | Path) -> str:
    """Runs ``glpn-NAME`` in a process of its own and returns what it prints.

    Raises:
        BackendError: It failed.
    """
    command = [sys.executable, "-m", "glpn_deploy", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"glpn-{name} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout
