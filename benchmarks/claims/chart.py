"""The README's chart, latency against error, from the section ``cpu`` of ``benchmarks/results/figures.json``.

    python -m glpn_deploy.benchmarks.claims.chart [docs/latency-error.svg]

Needs matplotlib. Latencies are those of glpn-nyu's architecture at 480x640; how far the depth moves in a
lower precision was measured on the demo network.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from glpn_deploy.benchmarks.claims import figures

CHART = figures.ROOT / "docs" / "latency-error.svg"
_COLORS = {
    "optimum": "#8a8a8a",
    "hf-eager": "#8a8a8a",
    "torch": "#c2571a",
    "onnxruntime": "#1f6fb4",
    "openvino": "#2a8a57",
}
_NEAR = 0.15  # [%]


def points(section: dict[str, Any]) -> dict[str, tuple[float, float, str]]:
    """Latency [ms], AbsRel against FP32 [%] and colour by label; the networks in FP32 move nothing."""
    found = section["figures"]
    names = {
        "hf-eager": "transformers",
        "optimum": "Optimum",
        "onnxruntime": "ONNX Runtime",
        "openvino": "OpenVINO",
        "torch": "torch",
    }
    result = {}
    for name, row in found["rows"].items():
        case, precision = name.split(" ")
        error = 100 * found["abs_rel"].get(name, 0.0)
        label = f"{names[case]} {precision.upper().replace('+', ' + ')}, {row['median_ms']:.0f} ms"
        result[label] = (row["median_ms"], error, _COLORS[case])
    return result


def draw(section: dict[str, Any], path: Path) -> None:
    """Writes the chart as SVG, whose texts stay texts."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "glpn", "font.size": 11})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
    found = points(section)
    first = min(latency for latency, error, _ in found.values() if error == 0)
    for label, (latency, error, color) in found.items():
        where: dict[str, Any]
        axes.plot(latency, error, "o", color=color, markersize=9)
        if latency == first:
            where = {"xytext": (-10, 0), "ha": "right", "va": "center"}
        elif error == 0:
            where = {"xytext": (4, 8), "rotation": 35, "va": "bottom"}
        else:  # labels of points at the same height stand one above the other
            above = sum(error > other for _, other, _ in found.values() if abs(error - other) < _NEAR)
            below = sum(error < other for _, other, _ in found.values() if abs(error - other) < _NEAR)
            where = {"xytext": (10, 8 * (above - below)), "va": "center"}
        axes.annotate(label, (latency, error), textcoords="offset points", color=color, **where)
    axes.set(xlim=(0, 2800), ylim=(-0.04, 1.6))
    axes.set_xlabel("latency, 480×640, batch 1, two CPU cores [ms]  (left is faster)")
    axes.set_ylabel("depth moves by, AbsRel against FP32 [%]")
    axes.set_title("Lower left is better", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)


def main() -> None:
    """Draws it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else CHART
    draw(figures.read(figures.RESULTS)["cpu"], path)
    print(path)


if __name__ == "__main__":
    main()
