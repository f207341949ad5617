"""A report as Markdown, for a README."""

from __future__ import annotations

from glpn_deploy.benchmarks.report.report_cells import (
    STAGES,
    cells,
    conditions,
    milliseconds,
    used_columns,
)
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.report.stability import unstable_lines


def markdown(report: Report) -> str:
    """Headlines, the table, stages, what was not stable or not run, and the conditions."""
    parts = ["\n".join(f"- {line}" for line in report.answers)]
    columns = used_columns(report.rows)
    parts.append(
        _table(
            ["case", *columns, "stable"],
            [
                [row.key, *(cells(row)[name] for name in columns), "yes" if row.stable else "**no**"]
                for row in report.ordered()
            ],
        )
    )
    for title, (head, body) in (
        ("Stages of a run, ms", stage_table(report)),
        (accuracy_title(report), accuracy_table(report)),
        ("Under load", load_table(report)),
    ):
        if body:
            parts.append(f"{title}:\n\n" + _table(head, body))
    for title, lines in (
        ("Where the time goes", operator_lines(report)),
        ("Not stable", unstable_lines(report.rows)),
        ("Not run", [f"{item.name}: {item.reason}" for item in report.not_run]),
    ):
        if lines:
            parts.append(f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines))
    parts.append("\n".join(conditions(report)))
    return "\n\n".join(part for part in parts if part) + "\n"


def stage_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and body of the stages of a run [ms]."""
    used = [name for name in STAGES if any(name in row.stages for row in report.rows)]
    body = [
        [row.key, *(milliseconds(row.stages[name]) if name in row.stages else "" for name in used)]
        for row in report.ordered()
        if row.stages
    ]
    return ["case", *(name.replace("_", " ") for name in used)], body


def operator_lines(report: Report) -> list[str]:
    """The operators that take most of a row's time, as the backend tells it."""
    lines = []
    for row in report.ordered():
        whole = sum(row.operators.values())
        told = [f"{name} {ms / whole:.0%}" for name, ms in row.operators.items() if ms >= 0.01 * whole > 0]
        lines += [f"{row.key}: {', '.join(told)}"] if told else []
    return lines


def accuracy_title(report: Report) -> str:
    """What `accuracy_table` was judged on; empty where nothing was."""
    judged = next((row.accuracy for row in report.rows if row.accuracy), None)
    return f"Accuracy on {judged['images']} images of {judged['dataset']}" if judged else ""


def accuracy_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and body of the accuracy on a data set, by backend and precision."""
    judged = {str(row.id.runner): row.accuracy for row in report.rows if row.accuracy}
    body = [
        [name, *(f"{accuracy[metric]:.4f}" for metric in ("delta1", "abs_rel", "rmse"))]
        for name, accuracy in judged.items()
    ]
    return ["", "δ1", "AbsRel", "RMSE, m"], body


def load_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and body of the concurrent callers."""
    body = [
        [
            one["key"],
            str(entry["callers"]),
            f"{entry['images_per_s']:.3g}",
            milliseconds(entry["median_ms"]),
            " / ".join(milliseconds(entry[p]) for p in ("p90_ms", "p95_ms", "p99_ms") if p in entry),
        ]
        for one in report.load
        for entry in one["callers"]
    ]
    return ["case", "callers", "images/s", "median, ms", "p90 / p95 / p99, ms"], body


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
