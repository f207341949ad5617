"""A report as Markdown, for a README."""

from __future__ import annotations

from glpn_deploy.benchmarks.report_cells import (
    STAGE_NAMES,
    STAGES,
    cells,
    conditions,
    milliseconds,
    used_columns,
)
from glpn_deploy.benchmarks.results import Report


def markdown(report: Report) -> str:
    """Headlines, the table, stages, what was not stable or not run, and the conditions."""
    parts = ["\n".join(f"- {line}" for line in report.headlines)]
    columns = used_columns(report.rows)
    parts.append(
        _table(
            ["case", *columns, "stable"],
            [
                [row.key, *(cells(row)[name] for name in columns), "yes" if row.stable else "**no**"]
                for row in report.rows
            ],
        )
    )
    stages = [name for name in STAGES if any(name in row.stages for row in report.rows)]
    if stages:
        body = [
            [row.key, *(milliseconds(row.stages[name]) if name in row.stages else "" for name in stages)]
            for row in report.rows
        ]
        parts.append(
            "Stages of a run, ms:\n\n" + _table(["case", *(STAGE_NAMES[name] for name in stages)], body)
        )
    judged = [row for row in report.rows if row.accuracy]
    if judged:
        names = ("delta1", "abs_rel", "rmse")
        seen = {row.key.rpartition(" ")[0]: row for row in judged}
        body = [
            [name, *(f"{(row.accuracy or {})[metric]:.4f}" for metric in names)] for name, row in seen.items()
        ]
        accuracy = judged[0].accuracy or {}
        parts.append(
            f"Accuracy on {accuracy['images']} images of {accuracy['dataset']}:\n\n"
            + _table(["", "δ1", "AbsRel", "RMSE, m"], body)
        )
    if report.load:
        parts.append("Under load:\n\n" + _table(*load_table(report)))
    unstable = [f"- {row.key}: {'; '.join(row.reasons.values())}" for row in report.rows if not row.stable]
    if unstable:
        parts.append("Not stable:\n\n" + "\n".join(unstable))
    if report.not_run:
        parts.append("Not run:\n\n" + "\n".join(f"- {item.name}: {item.reason}" for item in report.not_run))
    parts.append("\n".join(conditions(report)))
    return "\n\n".join(part for part in parts if part) + "\n"


def load_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and body of the load tests."""
    body = []
    for one in report.load:
        for entry in one["callers"]:
            tail = " / ".join(milliseconds(entry[p]) for p in ("p90_ms", "p95_ms", "p99_ms") if p in entry)
            body.append(
                [
                    one["key"],
                    f"{entry['callers']} callers",
                    f"{entry['images_per_s']:.3g} images/s",
                    milliseconds(entry["median_ms"]),
                    tail,
                ]
            )
        for entry in one["arrivals"]:
            tail = " / ".join(milliseconds(entry[p]) for p in ("p90_ms", "p95_ms", "p99_ms") if p in entry)
            kept = "kept up" if entry["kept_up"] else f"fell behind by {entry['backlog_s']:.1f} s"
            body.append(
                [one["key"], f"{entry['rate']:g} arrivals/s", kept, milliseconds(entry["median_ms"]), tail]
            )
        if one["soak"]:
            soak = one["soak"]
            grown = "unknown" if soak["growth_mib"] is None else f"{soak['growth_mib']:+.1f} MiB"
            words = "memory grows" if soak["leak_suspected"] else "memory steady"
            drifted = f", latency drifts {soak['drift']['share']:+.0%}" if soak["drifted"] else ""
            body.append([one["key"], f"soak, {soak['runs']} runs", f"{words} ({grown}){drifted}", "", ""])
    return ["case", "load", "result", "median, ms", "p90 / p95 / p99, ms"], body


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
