"""glpn-train: what a person types, sees, and finds afterwards."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glpn_deploy.cli import train as cli
from glpn_deploy.cli.derived import derived
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.training.options import TrainOptions


@pytest.fixture
def small(tmp_path: Path) -> list[object]:
    """Arguments of a run of four steps."""
    config = tmp_path / "config.json"
    tiny = GLPNConfig(
        depths=(1, 1, 1, 1),
        hidden_sizes=(8, 8, 8, 8),
        num_attention_heads=(1, 1, 1, 1),
        decoder_hidden_size=8,
    )
    config.write_text(tiny.to_json_string())
    sizes = ["--rooms", 4, "--val-rooms", 1, "--size", "32x32", "--batch", 2, "--epochs", 2]
    return ["rooms", tmp_path / "run", "--config", config, "--workers", 0, "--threads", 1, *sizes]


def test_help_is_there_in_well_under_a_second_and_teaches_the_papers_run():
    start = time.perf_counter()
    call = [sys.executable, "-c", "from glpn_deploy.cli.train import main; main()", "--help"]
    text = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - start < 2.0  # 0.4 s on a free machine
    assert "--start nvidia/mit-b4" in text
    assert "goes on by itself" in text


def test_every_option_of_the_library_is_offered_with_its_default():
    library = {field.name: field.default for field in dataclasses.fields(TrainOptions)}
    command = {
        name: option.default for name, option in inspect.signature(derived(cli.train)).parameters.items()
    }
    library["data_path"] = library.pop("path")
    assert command.keys() == library.keys() | {"json"}
    assert command["size"] == "192x256"
    assert all(command[name] == library[name] for name in library.keys() - {"out", "dataset", "size"})


def test_run_prints_json_alone_to_standard_output_and_the_next_commands(run, small):
    result = run("train", *small, "--json")
    assert result.status == 0, result.err
    values = json.loads(result.out)
    assert values["steps"] == 4
    assert 0 <= values["metrics"]["delta1"] <= 1
    assert Path(values["best"], "model.safetensors").is_file()
    assert "Epoch 2/2" in result.err
    assert f"glpn-eval {values['best']} --dataset rooms" in result.err


def test_changed_options_end_with_status_2_and_the_way_on(run, small):
    assert run("train", *small).status == 0
    result = run("train", *small, "--lr", 0.5)
    assert result.status == 2
    assert "lr (then 0.0001, now 0.5)" in result.err
    assert "--fresh" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nyu", "out"], "the nyu data set has no path"),
        (["nyu", "out", "--data-path", "nowhere"], "nowhere"),
        (["rooms", "out", "--data-path", "here"], "none for rooms"),
        (["rooms", "out", "--config", "mit-b9"], "expected demo, mit-b0"),
        (["rooms", "out", "--start", "nowhere/at-all", "--offline"], "nowhere/at-all"),
        (["rooms", "out", "--crop", "40x40"], "multiples of 32 px"),
        (["rooms", "out", "--size", "large"], "write --size 192x256"),
    ],
)
def test_wrong_use_ends_with_status_2_and_a_sentence(arguments, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("train", *arguments)
    assert result.status == 2
    assert message in result.err
    assert list(tmp_path.iterdir()) == []
