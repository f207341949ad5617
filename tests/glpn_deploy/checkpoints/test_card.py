"""What a network was trained on is read from its card, kept in the bundle, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from glpn_deploy.checkpoints.card import Origin, read_card
from glpn_deploy.checkpoints.hub import DEMO_FOLDER


def test_the_demo_network_says_what_it_knows() -> None:
    origin = read_card(DEMO_FOLDER)
    assert origin == Origin("apache-2.0", "rendered rooms", (96, 128))
    assert read_card(DEMO_FOLDER / "model.safetensors") == origin
    assert origin.advice.startswith(
        "trained on rendered rooms only: for photographs export vinvino02/glpn-nyu"
    )


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", Origin("mit")),
        ("---\ntrained_on: cellars # ours\ntrain_size: 64x96\n---\n", Origin(None, "cellars", (64, 96))),
        ("---\ntrain_size: large\n---\n", Origin()),
        ("trained_on: cellars\n", Origin()),
    ],
)
def test_cards(card: str, expected: Origin, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert read_card(tmp_path) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"licence": "mit"}, Origin("mit")),
        ({"trained_on": "cellars", "train_size": [64, 96]}, Origin(None, "cellars", (64, 96))),
        ({"train_size": [64]}, Origin()),
        ({"train_size": "64x96"}, Origin()),
    ],
)
def test_manifests(source: dict, expected: Origin) -> None:
    assert Origin.of_manifest(source) == expected
    assert bool(expected.advice) == (expected.trained_on is not None)
