"""Measures what a CPU is asked to reach, in turns in one run, and prints it beside what is asked.

    python -m glpn_deploy.benchmarks.claims.cpu_figures --out benchmarks/results [--only rows,start]

The report is written after every part. Needs the test extra (transformers, scikit-image) and psutil. Random
weights in glpn-nyu's architecture stand in for the checkpoint unless one is given; time and memory do not
depend on them. Rows run in processes of their own, one burst of each a round
(`glpn_deploy.benchmarks.measuring.rounds`). Optimum is taken where it is installed here or in the Python
given; otherwise HF's network exported by torch.onnx stands in.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.claims.cpu_parts import Besides, accuracy, limited
from glpn_deploy.benchmarks.claims.cpu_rows import Options, measure, prepare
from glpn_deploy.benchmarks.claims.cpu_verdicts import Figure, judge
from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.progress import Step
from glpn_deploy.runtimes.processor import cpu_flags

PARTS = ("rows", "start", "end-to-end", "streams", "accuracy", "limited", "profile")


class Lines:
    """Progress as lines on standard error, one when a step ends."""

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """A step of which the end is printed."""
        begin, line = time.perf_counter(), _Line()
        yield line
        print(f"{title} ({time.perf_counter() - begin:.0f} s) {line.said}", file=sys.stderr, flush=True)


class _Line:
    said = ""

    def advance(self, detail: str = "") -> None:
        """Nothing is printed."""

    def finish(self, summary: str) -> None:
        """Kept for the step's line."""
        self.said = summary


def tables(content: dict[str, Any]) -> list[Table]:
    """The rows, the time by kind of operator, and the figures asked for."""
    found: list[Table] = []
    if "rows" in content:
        ceilings = content["ceilings_gflops_per_s"]
        said = ", ".join(f"{name} {rate:.0f}" for name, rate in ceilings.items())
        table = Table(title=f"ceilings [GFLOP/s]: {said}")
        for head in ("row", "median ms", "images/s", "x export", "x HF eager", "of ceiling", "peak GB"):
            table.add_column(head, justify="left" if head == "row" else "right")
        forms = {"median_ms": ".0f", "images_per_s": ".2f", "over_export": ".2f", "over_eager": ".2f"}
        for name, row in content["rows"].items():
            if "not_run" in row:
                table.add_row(name, "not run", *[""] * 4, row["not_run"][:60])
                continue
            cells = [format(row[key], form) if key in row else "" for key, form in forms.items()]
            share = f"{row['of_ceiling']:.0%}" if "of_ceiling" in row else ""
            table.add_row(name, *cells, share, f"{row['peak_gb']:.2f}" if row["peak_gb"] else "")
        found.append(table)
    if "profile" in content:
        table = Table("row", "ms by kind of operator", title="where the time goes")
        for name, times in content["profile"].items():
            table.add_row(name, ", ".join(f"{kind} {ms:.0f}" for kind, ms in list(times.items())[:9]))
        found.append(table)
    table = Table("figure", "asked", "measured", "verdict", "note", title="asked and measured")
    for values in content["figures"]:
        figure = Figure(**values)
        table.add_row(figure.name, figure.asked, figure.text, figure.verdict, figure.note)
    return [*found, table]


def measure_parts(
    options: Options,
    only: Sequence[str],
    content: dict[str, Any],
    keep: Callable[[], None],
) -> None:
    """Measures the parts asked for into ``content``; ``keep`` is called after each.

    A part that fails says why under ``not_measured`` and ends no other.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = prepare(options, folder)
        besides = Besides(options, files, folder)

        def rows() -> dict[str, Any]:
            found, ceilings = measure(options, files)
            content.update(ceilings_gflops_per_s=ceilings, optimum=files.export is None)
            return found

        parts: dict[str, Callable[[], Any]] = {
            "rows": rows,
            "start": besides.start,
            "end-to-end": besides.end_to_end,
            "streams": besides.streams,
            "accuracy": lambda: accuracy(folder, options.quick),
            "limited": lambda: limited(folder),
            "profile": besides.profile,
        }
        for part in only:
            begin = time.perf_counter()
            with progress.step(part) as step:
                try:
                    content[part.replace("-", "_")] = parts[part]()
                    content["not_measured"].pop(part, None)
                    step.finish("")
                except (GlpnError, RuntimeError, OSError, MemoryError) as error:
                    content["not_measured"][part] = str(error)
                    step.finish(str(error))
            content["seconds"][part] = round(time.perf_counter() - begin)
            keep()


def begun(options: Options, only: Sequence[str], path: Path | None) -> dict[str, Any]:
    """A new report, or where only some parts are asked for the one at ``path``, which the others stay in.

    Raises:
        InputError: The report at ``path`` cannot be gone on with.
    """
    settings = {**json.loads(json.dumps(dataclasses.asdict(options))), "optimum": options.optimum is not None}
    fresh = {
        "format": "glpn-deploy-cpu-figures",
        "format_version": 3,
        "environment": describe_environment(),
        "settings": settings,
        "seconds": {},
        "not_measured": {},
    }
    if set(only) == set(PARTS) or path is None or not path.exists():
        return fresh
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})", fix="remove it, and measure all parts") from None
    for name in ("format_version", "environment", "settings"):
        before, now = (
            _alike(report.get(name)) if isinstance(report, dict) else None for report in (old, fresh)
        )
        if before != now:
            raise InputError(
                f"{path} is of another {name.replace('_', ' ')}",
                expected="parts of one report measured on one machine with the same settings",
                fix="leave --only out, or choose another --out",
            )
    return dict(old)


def _alike(value: Any) -> Any:
    """Without free memory and load, which change from part to part."""
    changing = ("memory", "load_average")
    return {k: v for k, v in value.items() if k not in changing} if isinstance(value, dict) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", help="a checkpoint (default: glpn-nyu's architecture, random weights)"
    )
    parser.add_argument("--size", default="480x640", help="HEIGHTxWIDTH (default 480x640)")
    parser.add_argument("--threads", type=int, help="threads of every row (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="few repeats: a trial, not for the record")
    parser.add_argument("--optimum", metavar="PYTHON", help="a Python with Optimum and this package")
    parser.add_argument("--out", type=Path, help="folder for cpu_figures.json")
    parser.add_argument(
        "--only",
        default=",".join(PARTS),
        help=f"parts to measure; the report keeps the others ({', '.join(PARTS)})",
    )
    given = parser.parse_args(arguments)
    match = re.fullmatch(r"(\d+)x(\d+)", given.size)
    if match is None or any(int(side) % 32 or not int(side) for side in match.groups()):
        parser.error(f"--size {given.size}: two multiples of 32, as 480x640")
    only = [word.strip() for word in given.only.split(",") if word.strip()]
    if not only or not set(only) <= set(PARTS):
        parser.error(f"--only {given.only}: some of {', '.join(PARTS)}")
    if given.threads is not None and given.threads < 1:
        parser.error(f"--threads {given.threads}: at least 1")
    size = (int(match[1]), int(match[2]))
    console = Console(width=None if Console().is_terminal else 160)
    options = Options(given.checkpoint, size, given.threads, given.quick, given.optimum)
    path = None if given.out is None else given.out / "cpu_figures.json"
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        content = begun(options, only, path)

        def keep() -> None:
            figures = judge(
                content.get("rows", {}), content, cpu_flags(), stand_in=not content.get("optimum")
            )
            content["figures"] = [dataclasses.asdict(figure) for figure in figures]
            if path is not None:
                with atomic_path(path) as staged:
                    staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

        with progress.shown(Lines()):
            measure_parts(options, only, content, keep)
    except (GlpnError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    for table in tables(content):
        console.print(table)
    if path is not None:
        console.print(str(path))
    if content["not_measured"]:
        for part, why in content["not_measured"].items():
            console.print(f"{part} was not measured: {why}", style="red", markup=False)
        parser.exit(1)


if __name__ == "__main__":
    main()
