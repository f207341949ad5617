"""A network small enough to train in a second, and a run that trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.training.options import TrainOptions

TINY = GLPNConfig(
    depths=(1, 1, 1, 1),
    hidden_sizes=(8, 8, 8, 8),
    num_attention_heads=(1, 1, 2, 2),
    mlp_ratios=(2, 2, 2, 2),
    decoder_hidden_size=8,
    drop_path_rate=0.2,  # random numbers of the network's own, which a resumed run must repeat
)

Options = Callable[..., TrainOptions]


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(TINY.to_json_string())
    return path


@pytest.fixture(scope="session")
def room_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(scope="session")
def make_options(tiny_config: Path, room_cache: Path) -> Options:
    """Options of a run of 3 epochs of 4 steps on rooms of 32x32."""

    def make(**changes: Any) -> TrainOptions:
        values: dict[str, Any] = {
            "dataset": "rooms",
            "rooms": 12,
            "val_rooms": 2,
            "size": (32, 32),
            "cache": room_cache,
            "config": str(tiny_config),
            "epochs": 3,
            "batch": 3,
            "lr": 1e-3,
            "device": "cpu",
            "workers": 0,
            "threads": 1,
        }
        return TrainOptions(**(values | changes))

    return make


@pytest.fixture
def options(make_options: Options, tmp_path: Path) -> Options:
    """The same, of a run in a folder of one's own."""
    return lambda **changes: make_options(**({"out": tmp_path / "run"} | changes))
