"""A report as one HTML page: charts and tables, no script, nothing from the network, for phones too."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

from glpn_deploy.benchmarks.report.charts import (
    backend_colors,
    drawing,
    error_chart,
    latency_chart,
    stage_chart,
)
from glpn_deploy.benchmarks.report.report_cells import BRIEF, cells, conditions, used_columns
from glpn_deploy.benchmarks.report.report_markdown import (
    accuracy_table,
    accuracy_title,
    load_table,
    operator_lines,
    stage_table,
)
from glpn_deploy.benchmarks.report.results import Report, Row
from glpn_deploy.benchmarks.report.rows import budget
from glpn_deploy.benchmarks.report.stability import unstable_lines

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1b1f;--soft:#5c5c66;--line:#dcdce2;--card:#f5f5f8;
--c0:#0b63b0;--c1:#c2560c;--c2:#0a7d5a;--c3:#9b3d8f;--c4:#8a6d00;--c5:#b3203a;--bad:#b3203a;--good:#0a7d5a}
@media(prefers-color-scheme:dark){:root{--paper:#131317;--ink:#ececf1;--soft:#a5a5b0;--line:#35353d;--card:#1d1d23;
--c0:#6db3f2;--c1:#f29a5c;--c2:#4fcba3;--c3:#dd90d3;--c4:#d8bd4f;--c5:#f4788c;--bad:#f4788c;--good:#4fcba3}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:16px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.45rem;line-height:1.25;margin:.4em 0 .2em}
h2{font-size:1.15rem;margin:1.6em 0 .5em}
h3{font-size:1rem;margin:0 0 .5em}
.soft{color:var(--soft);font-size:.875rem}
.headline{background:var(--card);border-left:4px solid var(--c0);padding:.6em .9em;margin:.6em 0;
border-radius:4px;font-weight:600}
.headline.none{border-color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:16px;
align-items:start;margin-bottom:16px}
figure{margin:0;background:var(--card);border-radius:8px;padding:12px;min-width:0}
svg{display:block;width:100%;max-width:520px;height:auto;margin:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;min-width:min(100%,44rem)}
th,td{padding:.35em .7em;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td:first-child,th:first-child{text-align:left;padding-left:0;position:sticky;left:0;background:var(--paper);
overflow-wrap:anywhere;min-width:6.6em}
details td{white-space:nowrap}
details td:first-child{white-space:normal;min-width:min(40vw,16em)}
@media(max-width:480px){table{font-size:.75rem}th,td{padding:.35em .3em}}
.bad{color:var(--bad)}
details{border-top:1px solid var(--line);padding:.5em 0}
summary{cursor:pointer;font-weight:600}
li{margin:.25em 0;overflow-wrap:anywhere}
ul{padding-left:1.2em}
"""


def html_page(report: Report) -> str:
    """The whole page.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    name = escape(report.source["bundle"])
    parts = [f"<h1>Latency of {name}</h1>"]
    for line, text in zip(report.headlines, report.answers, strict=True):
        parts.append(f'<p class="headline{"" if line.fastest else " none"}">{escape(text)}</p>')
    about = f"{conditions(report)[0]} {report.created}, {report.seconds:.0f} s."
    parts.append(f'<p class="soft">{escape(about)}</p>')
    with drawing():
        for shape, of_shape in itertools.groupby(report.ordered(), key=lambda row: row.shape):
            rows = list(of_shape)
            parts.append(f"<h2>{escape(shape)}</h2>" + _charts(report, rows) + _figures(rows, BRIEF))
    for title, (head, body) in (
        (accuracy_title(report), accuracy_table(report)),
        ("Under load", load_table(report)),
    ):
        if body:
            parts.append(f"<h2>{escape(title)}</h2>" + _table(head, body))
    parts += [
        _list("Not stable", unstable_lines(report.rows)),
        _list("Not run", [f"{item.name}: {item.reason}" for item in report.not_run]),
        _folded(
            "All figures", _figures(report.ordered(), {n: n for n in used_columns(report.rows)}, stable=True)
        ),
        _folded("Stages of a run, ms", _table(*stage_table(report)) if stage_table(report)[1] else ""),
        _folded("Where the time goes, as the backend tells it", _items(operator_lines(report))),
        _folded("How it was measured", _items(conditions(report))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Latency of {name}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _charts(report: Report, rows: Sequence[Row]) -> str:
    """Those of one shape."""
    colors, within = backend_colors(report.rows), report.settings.get("within")
    lower = dict.fromkeys(row.precision for row in rows if row.precision != "fp32") or {"fp32": None}
    budgets = (
        {f"allowed: {within:g}": within}
        if within
        else {f"{p} allows {budget(p):g}": budget(p) for p in lower}
    )
    charts = [
        ("Latency, the fastest first", latency_chart(rows, colors)),
        ("Speed against error", error_chart(rows, colors, report.reference or "the reference", budgets)),
        ("Stages, from file to depth", stage_chart(rows)),
    ]
    figures = (f"<figure><h3>{escape(name)}</h3>{chart}</figure>" for name, chart in charts if chart)
    return f'<div class="charts">{"".join(figures)}</div>'


def _figures(rows: Sequence[Row], names: Mapping[str, str], *, stable: bool = False) -> str:
    """A row's cells by column; ``names`` are the columns and what they are called here."""
    columns = [column for column in used_columns(rows) if column in names]
    head = ["case", *(names[column] for column in columns), *(["stable"] if stable else [])]
    body = [
        [
            row.key if stable else str(row.id.runner),
            *(cells(row)[column] for column in columns),
            *(["yes" if row.stable else "no"] if stable else []),
        ]
        for row in rows
    ]
    return _table(head, body)


def _table(head: list[str], body: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = "".join(
        "<tr>" + "".join(f"<td{_mark(text)}>{escape(text)}</td>" for text in line) + "</tr>" for line in body
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _mark(text: str) -> str:
    return ' class="bad"' if text == "NaN or infinite" else ""


def _list(title: str, lines: Sequence[str]) -> str:
    return f"<h2>{escape(title)}</h2>{_items(lines)}" if lines else ""


def _items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>" if inside else ""
