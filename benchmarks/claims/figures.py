"""Measures the figures that README.md and docs/ state, and writes their tables from them.

    python -m glpn_deploy.benchmarks.claims.figures [--only cpu,demo]
    python -m glpn_deploy.benchmarks.claims.figures --tables

Each section that is measured replaces its part of ``benchmarks/results/figures.json``, with the day, the
machine and the versions; the others stay. ``--tables`` measures nothing. Needs the test extra; ``cpu`` also
Optimum, here or in the Python that ``--optimum`` names, and takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.claims.readme_tables import fill
from glpn_deploy.benchmarks.claims.running import FigureOptions, StepLines
from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.errors import GlpnError, InputError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "figures.json"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SECTIONS = ("main_job", "cpu", "cpu_peers", "precision", "demo", "rtx", "uint8_input")
"""Each a module beside this one, whose function ``measure`` takes `FigureOptions` and gives figures."""
FORMAT, FORMAT_VERSION = "glpn-deploy-figures", 2


def measure(section: str, optimum: str | None) -> dict[str, Any]:
    """One section, as it is kept.

    Raises:
        GlpnError: Something that it needs is missing or failed.
    """
    module = importlib.import_module(f"glpn_deploy.benchmarks.claims.{section}")
    environment = describe_environment()
    with tempfile.TemporaryDirectory(prefix="glpn-figures-") as folder, progress.step(section):
        figures = module.measure(FigureOptions(Path(folder), optimum))
    day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return {"measured": day, "environment": environment, "figures": figures}


def read(path: Path) -> dict[str, Any]:
    """The sections of a file of figures, by name; none where there is no file.

    Raises:
        InputError: The file is something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["format_version"]) == (FORMAT, FORMAT_VERSION):
            return dict(content["sections"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r})", fix="remove it, and measure anew") from None
    raise InputError(f"{path} is of another format", expected=f"{FORMAT}, version {FORMAT_VERSION}")


def write(path: Path, sections: dict[str, Any]) -> None:
    """Writes the sections, in their order."""
    ordered = {name: sections[name] for name in SECTIONS if name in sections}
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "sections": ordered}
    with atomic_path(path) as staged:
        staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the sections asked for, and writes the tables."""
    parser = argparse.ArgumentParser(
        prog="figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew")
    parser.add_argument(
        "--optimum", metavar="PYTHON", help="a Python that has Optimum, and NNCF for cpu_peers"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of figures")
    parser.add_argument("--pages", type=Path, nargs="+", default=PAGES, help="the files with the tables")
    given = parser.parse_args(arguments)
    only = [] if given.tables else [name.strip() for name in given.only.split(",")]
    try:
        if not set(only) <= set(SECTIONS):
            raise InputError(
                f"--only {given.only} names an unknown section", expected=f"some of {', '.join(SECTIONS)}"
            )
        sections = read(given.results)
        with progress.shown(StepLines()):
            for name in only:
                sections[name] = measure(name, given.optimum)
                write(given.results, sections)
        for page in given.pages:
            text = page.read_text(encoding="utf-8")
            filled = fill(text, sections)
            if filled != text:
                with atomic_path(page) as staged:
                    staged.write_text(filled, encoding="utf-8")
                print(page)
    except GlpnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(given.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
