"""Measures the figures that README.md and docs/ state, and writes their tables from them.

    python -m glpn_deploy.benchmarks.claims.figures [--only cpu,demo]
    python -m glpn_deploy.benchmarks.claims.figures --tables

Each section that is measured replaces its part of ``benchmarks/results/figures.json``, with the day, the
machine and the versions; the others stay. ``--tables`` measures nothing. Needs the test extra; ``cpu`` and
``cpu_peers`` also Optimum, here or in the Python that ``--optimum`` names, and a quarter of an hour each;
``triton`` fetches a server, and ``triton_soak`` calls it for ten minutes.
"""

from __future__ import annotations

import datetime
import importlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.claims.readme_tables import fill
from glpn_deploy.benchmarks.claims.running import FigureOptions
from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.cli.app import command
from glpn_deploy.cli.console import output
from glpn_deploy.errors import InputError
from glpn_deploy.options import WORDS, Option

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "figures.json"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SECTIONS = (
    "main_job",
    "cpu",
    "cpu_peers",
    "precision",
    "demo",
    "rtx",
    "uint8_input",
    "scale",
    "triton",
    "triton_soak",
)
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
        raise InputError(f"{path} cannot be read ({error!r})", fix="remove it, and measure again") from None
    raise InputError(f"{path} is of another format", expected=f"{FORMAT}, version {FORMAT_VERSION}")


def write(path: Path, sections: dict[str, Any]) -> None:
    """Writes the sections, in their order."""
    ordered = {name: sections[name] for name in SECTIONS if name in sections}
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "sections": ordered}
    with atomic_path(path) as staged:
        staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def update(
    only: Sequence[str], optimum: str | None = None, results: Path = RESULTS, pages: Sequence[Path] = PAGES
) -> list[Path]:
    """Measures sections, keeps their figures, and writes the tables of the pages.

    Returns:
        The files that changed.

    Raises:
        GlpnError: A section is unknown or failed; those before it are kept.
    """
    if not set(only) <= set(SECTIONS):
        unknown = f"--only {','.join(only)} names an unknown section"
        raise InputError(unknown, expected=f"some of {', '.join(SECTIONS)}")
    sections, changed = read(results), [results] if only else []
    for name in only:
        sections[name] = measure(name, optimum)
        write(results, sections)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        filled = fill(text, sections)
        if filled != text:
            with atomic_path(page) as staged:
                staged.write_text(filled, encoding="utf-8")
            changed.append(page)
    return changed


def figures(
    only: Annotated[tuple[str, ...], Option("Sections to measure.", reader=WORDS)] = SECTIONS,
    tables: Annotated[bool, Option("Measure nothing, only rewrite the tables.")] = False,
    optimum: Annotated[
        str | None, Option("A Python that has Optimum, and NNCF for cpu_peers.", metavar="PYTHON")
    ] = None,
) -> None:
    """Measure the figures that README.md and docs/ state, and write their tables."""
    console = output(as_json=False)
    for path in update(() if tables else only, optimum):
        console.print(f"  {path}", markup=False)


main = command(figures)

if __name__ == "__main__":
    main()
