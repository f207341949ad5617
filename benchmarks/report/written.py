"""Writing a report's three files."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.report.report_html import html_page
from glpn_deploy.benchmarks.report.report_markdown import markdown
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.errors import WriteError


def write_reports(report: Report, folder: Path) -> tuple[Path, Path, Path]:
    """Writes ``report.json``, ``report.md`` and ``report.html``.

    Raises:
        WriteError: The folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {folder} could not be made ({error.strerror})") from error
    paths = tuple(folder / f"report.{suffix}" for suffix in ("json", "md", "html"))
    report.write(paths[0])
    for path, text in zip(paths[1:], (markdown(report), html_page(report)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths[0], paths[1], paths[2]
