"""Markdown and HTML: every figure is there; the page is whole, needs no network, and escapes."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from glpn_deploy.benchmarks.report.report_cells import cells, conditions, milliseconds
from glpn_deploy.benchmarks.report.report_html import html_page
from glpn_deploy.benchmarks.report.report_markdown import markdown
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.report.written import write_reports


@pytest.fixture
def whole(samples, row, report) -> Report:
    base = samples(20.0, 1)
    error = {**row(base).error, "abs_rel": 0.0, "max_abs_m": 0.0}
    rows = [
        row(base, baseline=base),
        row(
            samples(10.0, 2),
            baseline=base,
            backend="openvino <b>",
            precision="bf16",
            stable=False,
            reasons={"load": "other processes took 0.5 of its cores"},
            error=error,
            accuracy={"delta1": 0.9, "abs_rel": 0.1, "rmse": 0.5, "images": 3, "dataset": "rooms"},
            stages={},
            device_memory_mib=678.4,
        ),
        row(samples(12.0, 3), backend="torch", precision="fp16", error=None),
    ]
    load = {
        "key": rows[0].key,
        "callers": [{"callers": 2, "images_per_s": 70.0, "median_ms": 28.0, "p90_ms": 33.0}],
    }
    return report(rows, load=(load,))


class Checker(HTMLParser):
    """Open and close tags match; links to elsewhere are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.links += [
            value for name, value in attrs if name in ("src", "href", "xlink:href") and value[0] != "#"
        ]
        if tag != "meta":
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        assert tag in ("path", "use", "rect", "g")

    def handle_endtag(self, tag) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def test_the_page_is_whole_and_needs_nothing(whole) -> None:
    page = html_page(whole)
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    assert checker.links == []
    assert not re.search(r"https?://|@import|url\((?!#)|<script", page)
    assert '<meta name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme:dark" in page
    assert page.count("<svg") == 3
    assert not re.search(r"#0[01]00", page)  # colours that stand for the page's
    assert "openvino <b>" not in page
    assert "openvino <b> bf16 1x96x128" in checker.text
    assert 'class="headline none"' in page
    for text in (
        "other processes took some of its cores: openvino <b> bf16",
        "torch is not installed",
        "28.0",
        "Accuracy on 3 images of rooms",
        "0.9000",
        "Stages of a run, ms",
        "GPU memory, MiB",
        "678",
    ):
        assert text in checker.text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page).lower().replace("name", "")


def test_bars_are_the_latencies_the_fastest_first(whole) -> None:
    """The bars' lengths in the drawing, the axis being the same, are as the medians."""
    chart = html_page(whole).split("<svg")[1]
    bars = re.findall(r'd="M (\S+) \S+\s+L (\S+)[^"]*"[^>]*style="fill: var\(--c\d\)"', chart)
    found = [float(b) - float(a) for a, b in bars]
    assert found == sorted(found)
    medians = sorted(row.latency.median_ms for row in whole.rows)
    assert [length / found[0] for length in found] == pytest.approx(
        [ms / medians[0] for ms in medians], rel=1e-4
    )


def test_the_budget_is_a_line_of_the_second_chart(whole) -> None:
    assert "bf16 allows 0.01" in html_page(whole)
    asked = dataclasses.replace(whole, settings={**whole.settings, "within": 0.05})
    assert "allowed: 0.05" in html_page(asked)


def test_six_columns_and_the_rest_folded(whole) -> None:
    before, folded = html_page(whole).split("<details>", 1)
    head = before[before.index("<thead>") : before.index("</thead>")]
    assert re.findall("<th>(.*?)</th>", head) == ["case", "ms", "images/s", "× baseline", "AbsRel", "MiB"]
    assert "GPU memory, MiB" in folded


def test_where_the_time_goes(whole) -> None:
    (first, *others) = whole.rows
    told = dataclasses.replace(first, operators={"Conv": 6.0, "MatMul": 2.0, "Add": 0.01})
    report = dataclasses.replace(whole, rows=(told, *others))
    assert f"- {first.key}: Conv 75%, MatMul 25%" in markdown(report).splitlines()
    assert "Where the time goes" in html_page(report)


def test_what_disturbed_all_rows_is_told_once(whole) -> None:
    shaky = [dataclasses.replace(row, stable=False, reasons={"interval": "wide"}) for row in whole.rows]
    report = dataclasses.replace(whole, rows=tuple(shaky))
    assert "- the median is known less well than asked: all rows" in markdown(report).splitlines()


def test_markdown_has_every_row_with_its_figures(whole) -> None:
    text = markdown(whole)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for row in whole.rows:
        line = next(line for line in tables if line.startswith(f"| {row.key} |"))
        assert milliseconds(row.latency.median_ms) in line
    assert "**no**" in text
    widths = [line.count("|") for line in tables]
    assert len(set(widths)) <= 4  # four tables
    assert "| openvino <b> bf16 | 0.9000 | 0.1000 | 0.5000 |" in text


def test_a_row_that_is_broken_says_so(samples, row) -> None:
    error = dict.fromkeys(("max_abs_m", "p99_abs_m", "mean_abs_m", "abs_rel"), None)
    broken = row(samples(5.0, 1), error={**error, "delta1": 0.0, "non_finite": 7})
    assert cells(broken)["AbsRel to reference"] == "NaN or infinite"


@pytest.mark.parametrize(
    ("value", "text"), [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.01")]
)
def test_three_digits(value, text) -> None:
    assert milliseconds(value) == text


def test_conditions_name_machine_versions_and_overhead(whole) -> None:
    text = " ".join(conditions(whole))
    for part in ("2 cores", "onnxruntime 1.20.0", "torch fp32", "50 GFLOP/s", "0.10 µs", "not counted"):
        assert part in text


def test_three_files(whole, tmp_path) -> None:
    files = write_reports(whole, tmp_path / "out")
    assert [path.name for path in files] == ["report.json", "report.md", "report.html"]
    assert Report.read(files[0]).rows[0].key == whole.rows[0].key
