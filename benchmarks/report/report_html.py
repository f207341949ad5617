"""A report as one HTML page: charts and tables, no script, nothing from the network, for phones too."""

from __future__ import annotations

import itertools
from html import escape

from glpn_deploy.benchmarks.report.charts import backend_colors, error_chart, spread_chart, stage_chart
from glpn_deploy.benchmarks.report.report_cells import cells, conditions, used_columns
from glpn_deploy.benchmarks.report.report_markdown import (
    accuracy_table,
    accuracy_title,
    load_table,
    stage_table,
)
from glpn_deploy.benchmarks.report.results import Report, Row

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1b1f;--soft:#5c5c66;--line:#dcdce2;--card:#f5f5f8;
--c0:#0b63b0;--c1:#c2560c;--c2:#0a7d5a;--c3:#9b3d8f;--c4:#8a6d00;--c5:#b3203a;--bad:#b3203a}
@media(prefers-color-scheme:dark){:root{--paper:#131317;--ink:#ececf1;--soft:#a5a5b0;--line:#35353d;--card:#1d1d23;
--c0:#6db3f2;--c1:#f29a5c;--c2:#4fcba3;--c3:#dd90d3;--c4:#d8bd4f;--c5:#f4788c;--bad:#f4788c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:16px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.45rem;line-height:1.25;margin:.4em 0 .2em}
h2{font-size:1.15rem;margin:2em 0 .5em}
h3{font-size:1rem;margin:0 0 .5em}
.soft,.legend{color:var(--soft);font-size:.875rem}
.headline{background:var(--card);border-left:4px solid var(--c0);padding:.6em .9em;margin:.6em 0;
border-radius:4px}
.headline.none{border-color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:16px;
align-items:start}
figure{margin:0;background:var(--card);border-radius:8px;padding:12px;min-width:0}
svg{display:block;width:100%;max-width:520px;height:auto;margin:auto}
svg text{fill:var(--ink);font-size:12px}
svg text.name{font-weight:600}
svg text.small{fill:var(--soft);font-size:11px}
.grid{stroke:var(--line);stroke-width:1}
.median{stroke:var(--ink);stroke-width:2}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.dot,.mark{fill:currentColor;stroke:currentColor}.dot{opacity:.55}
.hollow{fill:var(--card)}
.band{fill:currentColor;opacity:.25}
.s0{fill:var(--c1);background:var(--c1)}.s1{fill:var(--c4);background:var(--c4)}
.s2{fill:var(--c3);background:var(--c3)}.s3{fill:var(--c0);background:var(--c0)}
.s4{fill:var(--c5);background:var(--c5)}.s5{fill:var(--c2);background:var(--c2)}
.key{display:inline-block;margin-right:1em}
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px}
.scroll{overflow-x:auto;margin:0 -16px;padding:0 16px}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.35em .8em;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td:first-child,th:first-child{text-align:left;padding-left:0;position:sticky;left:0;background:var(--paper)}
td:first-child{min-width:min(40vw,16em);white-space:normal;overflow-wrap:anywhere}
.bad{color:var(--bad)}
li{margin:.25em 0;overflow-wrap:anywhere}
ul{padding-left:1.2em}
"""


def html_page(report: Report) -> str:
    """The whole page."""
    colors = backend_colors(report.rows)
    parts = [
        f"<h1>Latency of {escape(report.source['bundle'])}</h1>",
        f'<p class="soft">{escape(conditions(report)[0])} {escape(report.created)}, '
        f"{report.seconds:.0f} s.</p>",
        *(
            f'<p class="headline{"" if line.fastest else " none"}">{escape(str(line))}</p>'
            for line in report.headlines
        ),
    ]
    for shape, group in itertools.groupby(report.rows, key=lambda row: row.shape):
        rows = list(group)
        charts = [
            ("Spread, one dot a run", spread_chart(rows, colors)),
            ("Speed against error", error_chart(rows, colors, report.reference or "the reference")),
            ("Stages, from file to depth", stage_chart(rows)),
        ]
        parts.append(f"<h2>{escape(shape)}</h2>")
        figures = (f"<figure><h3>{escape(name)}</h3>{chart}</figure>" for name, chart in charts if chart)
        parts.append(f'<div class="charts">{"".join(figures)}</div>')
    parts.append("<h2>Figures</h2>" + _figures(report.rows))
    for title, (head, body) in (
        ("Stages of a run, ms", stage_table(report)),
        (accuracy_title(report), accuracy_table(report)),
        ("Under load", load_table(report)),
    ):
        if body:
            parts.append(f"<h2>{escape(title)}</h2>" + _table(head, body))
    parts.append(
        _list(
            "Not stable", [f"{r.key}: {'; '.join(r.reasons.values())}" for r in report.rows if not r.stable]
        )
    )
    parts.append(_list("Not run", [f"{item.name}: {item.reason}" for item in report.not_run]))
    parts.append(_list("How it was measured", conditions(report)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Latency of {escape(report.source['bundle'])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _figures(rows: tuple[Row, ...]) -> str:
    columns = used_columns(rows)
    body = [[row.key, *(cells(row)[name] for name in columns), "yes" if row.stable else "no"] for row in rows]
    return _table(["case", *columns, "stable"], body)


def _table(head: list[str], body: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = "".join(
        "<tr>" + "".join(f"<td{_mark(text)}>{escape(text)}</td>" for text in line) + "</tr>" for line in body
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _mark(text: str) -> str:
    return ' class="bad"' if text in ("no", "NaN or infinite") else ""


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
