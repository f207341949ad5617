"""Charts as inline SVG: spread of the latency, speed against error, stages; the page's CSS colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from glpn_deploy.benchmarks.report.report_cells import STAGE_NAMES, STAGES, milliseconds
from glpn_deploy.benchmarks.report.results import Row

WIDTH = 360
"""Width of every chart in its own units; a phone shows one unit as about one pixel."""
_LEFT, _RIGHT = 8, 12
_MOST_DOTS = 150
_COLORS = 6
_LONGEST_NAME = 225
_AXIS, _FOOT = 40, 250


def backend_colors(rows: Sequence[Row]) -> dict[str, str]:
    """A CSS class by backend, the same in every chart of a page."""
    names = list(dict.fromkeys(row.backend for row in rows))
    return {name: f"c{number % _COLORS}" for number, name in enumerate(names)}


def spread_chart(rows: Sequence[Row], colors: dict[str, str]) -> str:
    """One strip a case: every run a dot, later runs lower, against the case's own median, with its interval.

    Runs far beyond the others are counted instead of drawn.
    """
    shares = [[value / row.latency.median_ms - 1 for value in _in_order(row)] for row in rows]
    low = min(_quantile(values, 0.0) for values in shares)
    high = max(_quantile(values, 0.95) for values in shares)
    axis = _Axis(100 * max(low * 1.2, -0.5), 100 * min(max(high * 1.5, 0.02), 1.0), log=False)
    strip, top = 46, 4
    parts = []
    for number, (row, values) in enumerate(zip(rows, shares, strict=True)):
        y = top + number * strip
        inside = [100 * value for value in values if axis.low <= 100 * value <= axis.high]
        beyond = len(values) - len(inside)
        figure = milliseconds(row.latency.median_ms) + " ms" + (f", {beyond} beyond" if beyond else "")
        parts.append(_label(row, y + 12, figure, mark=True))
        kind = colors[row.backend] + ("" if row.stable else " hollow")
        shown = inside[:: max(1, math.ceil(len(inside) / _MOST_DOTS))]
        for index, value in enumerate(shown):
            depth = y + 19 + 14 * (index + 0.5) / len(shown)
            parts.append(f'<circle class="{kind} dot" cx="{axis.at(value):.1f}" cy="{depth:.1f}" r="1.8"/>')
        ends = row.latency.low_ms, row.latency.high_ms
        if ends[0] is not None and ends[1] is not None:
            a, b = (
                axis.at(min(max(100 * (end / row.latency.median_ms - 1), axis.low), axis.high))
                for end in (ends[0], ends[1])
            )
            wide = max(1.0, b - a)
            parts.append(
                f'<rect class="{kind} band" x="{a:.1f}" y="{y + 17}" width="{wide:.1f}" height="18"/>'
            )
        x = axis.at(0.0)
        parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 16}" y2="{y + 36}"/>')
    bottom = top + len(rows) * strip
    name = "from the case's own median, %"
    return _svg(bottom + 32, axis.draw(bottom, name) + "".join(parts), "Spread of the latency, one dot a run")


def _in_order(row: Row) -> list[float]:
    return [value for number in sorted(row.samples) for value in row.samples[number]]


def _quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


def error_chart(rows: Sequence[Row], colors: dict[str, str], reference: str) -> str:
    """Median latency across, error against the reference upwards; both logarithmic. Left and low is good."""
    known = [
        (row, float(row.error["abs_rel"])) for row in rows if row.error and row.error["abs_rel"] is not None
    ]
    if not known:
        return ""
    floor = 1e-8
    errors = [max(error, floor) for _, error in known]
    times = [row.latency.median_ms for row, _ in known]
    across = _Axis(min(times) / 1.3, max(times) * 1.3, log=True, left=_AXIS)
    top, bottom = 10, _FOOT
    upward = _Axis(min(errors) / 3, max(max(errors) * 3, 1e-2), log=True, left=bottom, right=WIDTH - top)
    parts = [across.draw(bottom, "median latency, ms")]
    for tick in upward.ticks():
        y = upward.at(tick)
        name = "0" if tick <= floor * 1.01 and min(errors) == floor else f"{tick:.0e}".replace("e-0", "e-")
        parts.append(f'<line class="grid" x1="{_AXIS}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="36" y="{y + 3:.1f}" text-anchor="end">{name}</text>')
    points = [
        (across.at(row.latency.median_ms), upward.at(error))
        for (row, _), error in zip(known, errors, strict=True)
    ]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for (row, _), (x, y) in zip(known, points, strict=True):
        kind = colors[row.backend] + ("" if row.stable else " hollow")
        parts.append(f'<circle class="{kind} mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        name = f"{row.backend} {row.precision}"
        left, level = _free_place(x, y, 6.2 * len(name), taken)
        parts.append(f'<text class="small" x="{left:.1f}" y="{level:.1f}">{escape(name)}</text>')
    name = f"AbsRel to {escape(reference)}"
    parts.append(f'<text class="small" x="{WIDTH - _RIGHT}" y="{top}" text-anchor="end">{name}</text>')
    return _svg(bottom + 32, "".join(parts), "Speed against error")


def _free_place(
    x: float, y: float, wide: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Where a label goes beside a point: the first place that covers nothing, which is noted in ``taken``."""
    places = [(x + 8, y + 4), (x - 8 - wide, y + 4)]
    middle = min(max(x - wide / 2, _AXIS), WIDTH - wide)
    places += [(middle, y + step) for step in (-9, 17, -21, 29, -33, -45, -57)]
    for left, level in places:
        box = (left, level - 10, left + wide, level + 2)
        free = all(box[2] < a or box[0] > c or box[3] < b or box[1] > d for a, b, c, d in taken)
        if free and left >= _AXIS and left + wide <= WIDTH and level < _FOOT:
            break
    taken.append(box)
    return left, level


def stage_chart(rows: Sequence[Row]) -> str:
    """One bar a case, from the file to the depth at the image's size."""
    known = [row for row in rows if row.stages]
    if not known:
        return ""
    axis = _Axis(0.0, max(sum(row.stages.values()) for row in known) * 1.02, log=False)
    used = [name for name in STAGES if any(name in row.stages for row in known)]
    parts, strip, top = [], 40, 4
    for number, row in enumerate(known):
        y = top + number * strip
        around = sum(
            value for name, value in row.stages.items() if name in ("decode", "preprocess", "postprocess")
        )
        parts.append(_label(row, y + 12, f"+ {milliseconds(around)} ms around it"))
        start = 0.0
        for name in used:
            value = row.stages.get(name, 0.0)
            x, wide = axis.at(start), axis.at(start + value) - axis.at(start)
            parts.append(
                f'<rect class="s{STAGES.index(name)}" '
                f'x="{x:.1f}" y="{y + 17}" width="{wide:.2f}" height="15">'
                f"<title>{STAGE_NAMES[name]} {milliseconds(value)} ms</title></rect>"
            )
            start += value
    bottom = top + len(known) * strip
    legend = "".join(
        f'<span class="key"><i class="s{STAGES.index(name)}"></i>{STAGE_NAMES[name]}</span>' for name in used
    )
    svg = _svg(bottom + 32, axis.draw(bottom, "ms a run") + "".join(parts), "Stages of a run")
    return f'{svg}<p class="legend">{legend}</p>'


class _Axis:
    """A scale along one direction, in the chart's units."""

    def __init__(
        self, low: float, high: float, *, log: bool, left: float = _LEFT, right: float = WIDTH - _RIGHT
    ) -> None:
        self.low, self.high, self._log, self._left, self._right = low, high, log, left, right
        if left > WIDTH / 2:  # upwards: from the bottom at ``left`` to the top
            self._right = WIDTH - right

    def at(self, value: float) -> float:
        """Where a value lies."""
        if self._log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self._left + share * (self._right - self._left)

    def ticks(self) -> list[float]:
        """Round values: 1, 2, 5 times a power of ten; on long logarithmic scales the powers alone."""
        if self._log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1,) if last - first > 3 else (1, 2, 5)
            found = [m * 10.0**e for e in range(first, last + 1) for m in steps]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) > 2:
                return found[:: max(1, math.ceil(len(found) / 7))]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        return [step * n for n in range(math.ceil(self.low / step), int(self.high / step) + 1)]

    def draw(self, y: float, name: str) -> str:
        """Ticks, numbers and the name under a chart whose lower edge is ``y``."""
        parts = []
        for tick in self.ticks():
            x = self.at(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{y}"/>')
            parts.append(f'<text class="small" x="{x:.1f}" y="{y + 13}" text-anchor="middle">{tick:g}</text>')
        right = WIDTH - _RIGHT
        parts.append(f'<text class="small" x="{right}" y="{y + 27}" text-anchor="end">{escape(name)}</text>')
        return "".join(parts)


def _label(row: Row, y: float, figure: str, *, mark: bool = False) -> str:
    name = f"{row.backend} {row.precision}" + (" (not stable)" if mark and not row.stable else "")
    narrow = f' textLength="{_LONGEST_NAME}" lengthAdjust="spacingAndGlyphs"' if len(name) > 34 else ""
    return (
        f'<text class="name" x="{_LEFT}" y="{y}"{narrow}>{escape(name)}</text>'
        f'<text class="small" x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{escape(figure)}</text>'
    )


def _svg(height: float, body: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
