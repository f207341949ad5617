"""log.csv after a kill: what is written again is not there twice."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

from glpn_deploy.training.history import METRICS, History

ZEROS = dict.fromkeys(METRICS, 0.0)


def steps(out: Path) -> list[int]:
    with (out / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def write(out: Path, last: int) -> None:
    with History(out, 0, 0) as history:
        for step in range(1, last + 1):
            history.add_step(step, (step + 3) // 4, 1e-4, 0.5)
            if step % 4 == 0:
                history.add_validation(step, step // 4, ZEROS)


def test_rows_after_the_state_are_taken_out(tmp_path):
    write(tmp_path, 7)
    with History(tmp_path, step=5, validated=1):
        pass
    assert steps(tmp_path) == [1, 2, 3, 4, 4, 5]


def test_metrics_of_an_epoch_that_is_validated_again_are_taken_out(tmp_path):
    write(tmp_path, 4)
    with History(tmp_path, step=4, validated=0):
        pass
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_line_that_a_kill_cut_off_is_left_out(tmp_path):
    write(tmp_path, 3)
    text = (tmp_path / "log.csv").read_text()
    (tmp_path / "log.csv").write_text(text[:-20])
    with History(tmp_path, step=3, validated=0) as history:
        history.add_step(4, 1, 1e-4, 0.5)
    assert steps(tmp_path) == [1, 2, 4]


def test_run_from_the_start_begins_a_new_log(tmp_path):
    write(tmp_path, 3)
    with History(tmp_path, step=0, validated=0):
        pass
    assert steps(tmp_path) == []


def test_tensorboard_gets_the_same_where_it_is_installed(tmp_path, monkeypatch):
    seen = []

    class Writer:
        def __init__(self, folder, purge_step):
            seen.append((folder.name, purge_step))

        def add_scalar(self, *values):
            seen.append(values)

        def close(self):
            seen.append("closed")

    module = types.ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(module, "SummaryWriter", Writer, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with History(tmp_path, step=2, validated=0) as history:
        history.add_step(3, 1, 1e-4, 0.5)
    assert seen == [("tensorboard", 3), ("train/loss", 0.5, 3), ("train/lr", 1e-4, 3), "closed"]
