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
_NEAR = 0.15  # [%]: points of such errors share a column of labels
_LABEL_MS, _LABEL_ERROR = 75, 0.09  # least distances of labels, along a row of points and in a column


def points(section: dict[str, Any]) -> dict[str, tuple[float, float, str]]:
    """Latency [ms], AbsRel against FP32 [%] and colour by label, where the error is known (FP32: none)."""
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
        if precision != "fp32" and name not in found["abs_rel"]:
            continue
        error = 0.0 if precision == "fp32" else 100 * found["abs_rel"][name]
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
    free = 0.0
    for label, (latency, error, color) in sorted(found.items(), key=lambda item: item[1]):
        axes.plot(latency, error, "o", color=color, markersize=9)
        if error == 0:
            free = max(free + _LABEL_MS, latency)
            at = (free, 0.06)
            axes.annotate(label, at, color=color, rotation=38, rotation_mode="anchor", va="center")
    free = 0.0
    for label, (_, error, color) in sorted(found.items(), key=lambda item: item[1][1]):
        if error > 0:
            free = max(free + _LABEL_ERROR, error)
            right = max(at for at, other, _ in found.values() if abs(error - other) < _NEAR)
            axes.annotate(label, (right + 45, free), color=color, va="center")
    axes.set(xlim=(0, 2200), ylim=(-0.04, 1.6))
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
