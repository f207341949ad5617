"""Writing a report's three files.

    python -m glpn_deploy.benchmarks.report.written benchmarks/results/bench_nyu_cpu.json

rewrites reports from the samples in their JSON.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

from glpn_deploy.atomic import atomic_path, make_folder
from glpn_deploy.benchmarks.report.report_html import html_page
from glpn_deploy.benchmarks.report.report_markdown import markdown
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.report.rows import headline


def write_reports(report: Report, folder: Path) -> tuple[Path, Path, Path]:
    """Writes ``report.json``, ``report.md`` and ``report.html``.

    Raises:
        WriteError: The folder or a file cannot be written.
    """
    return _write(report, make_folder(folder) / "report.json")


def _write(report: Report, path: Path) -> tuple[Path, Path, Path]:
    markdown_path, page = path.with_suffix(".md"), path.with_suffix(".html")
    report.write(path)
    for target, text in ((markdown_path, markdown(report)), (page, html_page(report))):
        with atomic_path(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path, markdown_path, page


def _rewrite(path: Path) -> tuple[Path, Path, Path]:
    """The files of a report as this version writes them; its headlines come from its samples again."""
    report = Report.read(path)
    asked, within = report.settings["rounds"]["half_width"], report.settings.get("within")
    shapes = itertools.groupby(report.ordered(), key=lambda row: row.shape)
    headlines = tuple(headline(list(rows), asked, within) for _, rows in shapes)
    return _write(dataclasses.replace(report, headlines=headlines), path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(*_rewrite(Path(name)))
