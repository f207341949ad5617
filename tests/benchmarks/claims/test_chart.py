"""The README's chart shows the figures that are kept."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from glpn_deploy.benchmarks.claims import chart, figures


@pytest.fixture
def section() -> dict:
    return figures.read(figures.RESULTS)["cpu"]


def test_it_shows_every_row_whose_error_is_known(section) -> None:
    labels = chart.points(section)
    rows, off = section["figures"]["rows"], section["figures"]["abs_rel"]
    assert len(labels) == sum(name.endswith("fp32") or name in off for name in rows)  # no error is not none
    median_ms = rows["openvino bf16"]["median_ms"]
    found = labels[f"OpenVINO BF16, {median_ms:.0f} ms"]
    assert found[:2] == pytest.approx((median_ms, 100 * off["openvino bf16"]))
    text = chart.CHART.read_text(encoding="utf-8")
    for label in labels:
        assert label in text, "run: python -m glpn_deploy.benchmarks.claims.chart"


def test_a_faster_row_moves_left(section, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def places(given: dict) -> list[float]:
        chart.draw(given, tmp_path / "chart.svg")
        text = (tmp_path / "chart.svg").read_text(encoding="utf-8")
        return [
            float(x)
            for x in re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="[\d.]+" style="fill: #2a8a57', text)
        ]

    faster = copy.deepcopy(section)
    faster["figures"]["rows"]["openvino bf16"]["median_ms"] /= 2
    before, after = places(section), places(faster)
    assert len(before) == len(after) == 4
    assert len(set(before) - set(after)) == 1
    assert sum(after) < sum(before)
