"""The demo checkpoint keeps what its model card says, and the reports the README quotes say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.accuracy.evaluation import evaluate
from glpn_deploy.accuracy.options import EvalOptions
from glpn_deploy.checkpoints.hub import DEMO_FOLDER
from glpn_deploy.datasets.registry import open_dataset

ROOT = Path(__file__).parents[2]
_NAMES = {"δ1": "delta1", "δ2": "delta2", "δ3": "delta3", "AbsRel": "abs_rel", "RMSE [m]": "rmse"}


@pytest.fixture(scope="module")
def card() -> dict[str, float]:
    """The network's column of the card's table."""
    text = (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| \*\*([\d.]+)\*\* \|", text, re.MULTILINE)
    return {_NAMES[name]: float(value) for name, value in rows if name in _NAMES}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_cards_figures_come_out_again_to_the_third_digit(card: dict[str, float]) -> None:
    with DepthEstimator.load("demo") as estimator:
        report = evaluate(estimator, open_dataset("rooms", None), EvalOptions(batch_size=10))
    assert report.result["images"] == 500
    assert len(card) == len(_NAMES)
    for name, value in card.items():
        assert report.metrics[name] == pytest.approx(value, abs=0.00051), name


def test_the_committed_report_says_what_the_card_says(card: dict[str, float]) -> None:
    content = json.loads((ROOT / "benchmarks" / "results" / "figures.json").read_text(encoding="utf-8"))
    report = content["sections"]["demo"]["figures"]["rooms"]
    assert report["images"] == 500
    for name, value in card.items():
        assert round(report["metrics"][name], 3) == value, name


def test_the_preset_is_its_network() -> None:
    from glpn_deploy.model.config import GLPNConfig
    from glpn_deploy.training.start import preset

    assert preset("demo") == GLPNConfig.from_json_file(DEMO_FOLDER / "config.json")


def test_the_checkpoint_is_small_and_its_card_counts_its_parameters_right() -> None:
    from glpn_deploy.model.modeling import GLPNForDepthEstimation

    assert sum(path.stat().st_size for path in DEMO_FOLDER.glob("*.safetensors")) <= 4_000_000
    count = sum(
        parameter.numel() for parameter in GLPNForDepthEstimation.from_pretrained("demo").parameters()
    )
    assert f"{count:,} parameters" in (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
