"""Charts as inline SVG, drawn by matplotlib, coloured by the page: latency, speed against error, stages."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from glpn_deploy.benchmarks.report.report_cells import STAGES, images_per_s, milliseconds
from glpn_deploy.benchmarks.report.results import Row
from glpn_deploy.optional import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 360  # of every chart, in units; a phone shows one as about one pixel
_INCH = 72  # units
_BAR = 44  # units of a row: its words and its bar
_NAMES = ("ink", "soft", "line", "card", "good", "c0", "c1", "c2", "c3", "c4", "c5")
_CSS = {f"#0100{i:02x}": f"var(--{name})" for i, name in enumerate(_NAMES)}
"""matplotlib knows no variables of CSS: colours that stand for the page's, which are light or dark."""
_INK, _SOFT, _LINE, _CARD, _GOOD, *_COLORS = _CSS
_LEAST = 1e-8  # AbsRel; a logarithmic axis has no 0
_LETTER = 6.4  # units, of a label


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """The style of all charts, around the functions below.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with needs("the charts of a report", "bench"):
        import matplotlib
    style: Any = {"text.color": _INK, "axes.labelcolor": _SOFT, "xtick.color": _SOFT, "ytick.color": _SOFT}
    style |= {"grid.color": _LINE, "svg.fonttype": "none", "svg.hashsalt": "glpn", "font.size": 12}
    style |= {"ytick.left": False, "xtick.bottom": False, "xtick.minor.bottom": False, "axes.grid": True}
    style |= {f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")}
    with matplotlib.rc_context(style | {"axes.axisbelow": True, "ytick.minor.left": False}):
        yield


def backend_colors(rows: Sequence[Row]) -> dict[str, str]:
    """A colour by backend, the same in every chart of a page."""
    names = dict.fromkeys(row.backend for row in rows)
    return {name: _COLORS[number % len(_COLORS)] for number, name in enumerate(names)}


def latency_chart(rows: Sequence[Row], colors: Mapping[str, str]) -> str:
    """A bar a row, in their order: the median, its 95 % interval and images a second."""
    axes = _bars(rows, [f"{milliseconds(row.latency.median_ms)} ms, {images_per_s(row)}/s" for row in rows])
    for y, row in enumerate(rows):
        median, low, high = row.latency.median_ms, row.latency.low_ms, row.latency.high_ms
        axes.barh(y, median, 0.36, color=colors[row.backend])
        if low is not None and high is not None:
            axes.errorbar(median, y, xerr=[[median - low], [high - median]], color=_INK, capsize=4)
    axes.set_xlim(0, 1.03 * max(row.latency.high_ms or row.latency.median_ms for row in rows))
    axes.set_xlabel("ms a run: median and its 95 % interval")
    return _svg(axes, "Latency, the fastest first")


def error_chart(
    rows: Sequence[Row], colors: Mapping[str, str], reference: str, budgets: Mapping[str, float]
) -> str:
    """Latency across, error upwards, both logarithmic; ``budgets`` are errors that are allowed, by name."""
    points = [
        (row, row.latency.median_ms, max(float(row.error["abs_rel"]), _LEAST))
        for row in rows
        if row.error and row.error["abs_rel"] is not None
    ]
    if not points:
        return ""
    from matplotlib.ticker import LogLocator

    axes = _canvas(310, left=44, bottom=42)
    times, errors = [ms for _, ms, _ in points], [error for _, _, error in points]
    axes.set(xscale="log", yscale="log", xlim=(min(times) / 1.5, max(times) * 1.5))
    axes.set_ylim(min(*errors, *budgets.values()) / 6, max(*errors, *budgets.values()) * 6)
    axes.set_xlabel("ms a run")
    axes.set_title(f"AbsRel to {reference}", loc="left", fontsize=12, color=_SOFT)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    across, (left, low), (right, _) = axes.get_yaxis_transform(), axes.bbox.min, axes.bbox.max
    taken = [(left, low, left + 100, low + 20)]
    for name, limit in budgets.items():
        axes.axhline(limit, color=_GOOD, linewidth=1.2, linestyle="--")
        axes.text(0.99, limit * 1.15, name, va="bottom", ha="right", color=_GOOD, transform=across)
        _, y = axes.transData.transform((times[0], limit))
        taken += [(left, y - 1, right, y + 1), (right - 8 * len(name), y, right, y + 16)]
    axes.axhspan(0, max(budgets.values()), 0, 0.4, color=_GOOD, alpha=0.12, linewidth=0)
    axes.text(0.02, 0.02, "fast and right", color=_GOOD, weight="bold", transform=axes.transAxes)
    marks = axes.transData.transform([(ms, error) for _, ms, error in points])
    taken += [(x - 5, y - 5, x + 5, y + 5) for x, y in marks]
    for row, ms, error in points:
        color = colors[row.backend]
        axes.plot(ms, error, "o", markersize=9, color=color, markerfacecolor=color if row.stable else _CARD)
        _label(axes, str(row.id.runner), ms, error, taken)
    return _svg(axes, "Speed against error")


def stage_chart(rows: Sequence[Row]) -> str:
    """A bar a row, from the file to the depth at the image's size."""
    known = [row for row in rows if row.stages]
    if not known:
        return ""
    around = [
        sum(row.stages.get(name, 0.0) for name in ("decode", "preprocess", "postprocess")) for row in known
    ]
    axes = _bars(known, [f"{milliseconds(ms)} ms around it" for ms in around], below=40)
    for color, name in zip(_COLORS, STAGES, strict=True):
        widths = [row.stages.get(name, 0.0) for row in known]
        start = [sum(row.stages.get(other, 0.0) for other in STAGES[: STAGES.index(name)]) for row in known]
        if any(widths):
            axes.barh(range(len(known)), widths, 0.36, start, color=color, label=name.replace("_", " "))
    axes.set_xlabel("ms from file to depth")
    axes.figure.legend(
        loc="lower left", ncols=3, frameon=False, fontsize=11, borderpad=0, handlelength=1, columnspacing=1.2
    )
    return _svg(axes, "Stages of a run")


def _canvas(height: float, left: float, bottom: float) -> Axes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / _INCH, height / _INCH), dpi=_INCH)
    inside = ((_WIDTH - left - 14) / _WIDTH, (height - bottom - 18) / height)
    return figure.add_axes((left / _WIDTH, bottom / height, *inside))


def _bars(rows: Sequence[Row], figures: Sequence[str], below: float = 0) -> Axes:
    """Axes for a bar a row, with its name and a figure above each, and room below for a legend [units]."""
    axes = _canvas(_BAR * len(rows) + 60 + below, left=8, bottom=42 + below)
    axes.set(ylim=(len(rows) - 0.6, -0.8), yticks=[])
    for y, (row, figure) in enumerate(zip(rows, figures, strict=True)):
        where: dict[str, Any] = {"y": y - 0.28, "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(0, s=str(row.id.runner), weight="bold", **where)
        axes.text(1, s=figure, ha="right", color=_SOFT, **where)
    return axes


def _label(axes: Axes, text: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> None:
    """Writes beside a point, in the first place that covers nothing, which is noted in ``taken`` [units]."""
    (at, up), wide = axes.transData.transform((x, y)), _LETTER * len(text)
    low, high = axes.bbox.x0, axes.bbox.x1
    middle = min(max(at - wide / 2, low), high - wide)
    places = [(at + 9, up - 4), (at - 9 - wide, up - 4)]
    places += [(middle, up + step) for step in (9, -17, 21, -29, 33, -41, 45, 57)]
    for left, base in places:
        box = (left, base - 2, left + wide, base + 10)
        if (
            low <= left
            and left + wide <= high
            and all(box[2] < a or box[0] > c or box[3] < b or box[1] > d for a, b, c, d in taken)
        ):
            break
    taken.append(box)
    left, base = axes.transData.inverted().transform(box[:2])
    axes.text(left, base, text, fontsize=11)


def _svg(axes: Axes, title: str) -> str:
    """The chart without matplotlib's head, sizes and names; its colours are the page's."""
    buffer = io.StringIO()
    about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure: Any = axes.figure
    figure.savefig(buffer, format="svg", transparent=True, metadata=about)
    text = buffer.getvalue()
    box = re.search(r'viewBox="[^"]*"', text)
    body = re.sub(
        r"^.*?<svg[^>]*>|<defs>\s*<style.*?</defs>|<!--.*?-->| id=\"[\w.]+_\d+\"", "", text, flags=re.DOTALL
    )
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", body)
    body = " ".join(body.split())
    for color, variable in _CSS.items():
        body = body.replace(color, variable)
    name = escape(title)
    return f'<svg {box[0] if box else ""} role="img" aria-label="{name}"><title>{name}</title>{body}'
