"""glpn-export --trace and --model: networks of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glpn_deploy import DepthEstimator
from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.cli.working import export as working
from glpn_deploy.errors import ExportError

NETWORKS = """
import torch
from glpn_deploy import GLPNConfig

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.config = GLPNConfig(max_depth=10)
        self.conv = torch.nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, pixel_values):
        return 10 * torch.sigmoid(self.conv(pixel_values)).squeeze(1)

def load(checkpoint):
    return Own()

def fail(checkpoint):
    raise KeyError(checkpoint)

def nothing(checkpoint):
    return checkpoint
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module, which one stands in."""
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_ones_own(run: Callable, networks: Path, tiny_checkpoint: Path) -> None:
    result = run("export", tiny_checkpoint, "bundle", "--model", "own_networks:load")
    assert result.status == 0, result.err
    assert "trace model.onnx" in result.out
    assert "12 shapes" in result.out or "12 of 12" in result.out
    bundle = Bundle.open(networks / "bundle")
    assert bundle.artefact("fp32").route == "checkpoint -> trace -> onnx"
    assert bundle.manifest.source["source"] == "glpn-tiny, as Own"
    with DepthEstimator.load(bundle.folder) as estimator:
        assert estimator(np.zeros((64, 96, 3), np.uint8)).depth.shape == (64, 96)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("load", "--model load; expected MODULE:FUNCTION"),
        ("own_networks:", "--model own_networks:"),
        ("no_such_module:load", "ModuleNotFoundError"),
        ("own_networks:missing", "AttributeError"),
        ("own_networks:fail", "KeyError"),
        ("own_networks:nothing", "returned a str"),
    ],
)
@pytest.mark.usefixtures("networks")
def test_what_makes_no_network(name: str, words: str, run: Callable, tiny_checkpoint: Path) -> None:
    result = run("export", tiny_checkpoint, "bundle", "--model", name)
    assert result.status == 2
    assert words in " ".join(result.err.split())
    assert "Traceback" not in result.err
    assert not Path("bundle").exists()


def test_trace_is_an_option_of_the_export(
    run: Callable, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build(source: object, out: Path, options: Any) -> None:
        asked.append(options)
        raise ExportError("enough")

    monkeypatch.setattr(working, "build", build)
    for arguments in ((), ("--trace",)):
        assert run("export", tiny_checkpoint, tmp_path / "b", *arguments).status == 1
    assert [options.onnx.route for options in asked] == ["write", "trace"]
