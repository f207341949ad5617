"""Training runs: they learn, they are recorded, and stopping them changes nothing."""

from __future__ import annotations

import csv
import dataclasses
import math
import multiprocessing
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glpn_deploy.atomic import only_one
from glpn_deploy.errors import BackendError, CheckpointError, DatasetError, InputError, WriteError
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.training import learner
from glpn_deploy.training.checkpointing import load_state, state_path
from glpn_deploy.training.history import COLUMNS
from glpn_deploy.training.learner import Learner
from glpn_deploy.training.options import TrainOptions
from glpn_deploy.training.trainer import LOCK, TrainingError, TrainingStopped, train
from tests.refusals import refused

STEPS = 12


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def losses(out: Path) -> list[tuple[str, str]]:
    return [(row["step"], row["loss"]) for row in rows(out) if row["loss"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(GLPNForDepthEstimation.from_pretrained(folder).state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Raises Ctrl-C's signal during the given step, as a terminal would."""
    step = Learner.step

    def stopping(self, images, depth, number, total):
        if number == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, images, depth, number, total)

    monkeypatch.setattr(Learner, "step", stopping)


@pytest.fixture(scope="session")
def trained(make_options, tmp_path_factory) -> TrainOptions:
    """A run of the usual options that is done; to be read only."""
    run = make_options(out=tmp_path_factory.mktemp("trained") / "run")
    train(run)
    return run


@pytest.fixture
def run(trained, options) -> TrainOptions:
    """The same run in a folder of one's own."""
    shutil.copytree(trained.out, options().out)
    return options()


@pytest.fixture(scope="session")
def whole(make_options, tmp_path_factory) -> TrainOptions:
    """A run with an average and clipping that nothing stopped; to be read only."""
    run = make_options(out=tmp_path_factory.mktemp("whole") / "run", ema=0.9, clip=1.0)
    train(run)
    return run


def test_loss_falls_on_a_few_rooms(options):
    train(
        options(rooms=4, batch=2, epochs=20, lr=1e-2, schedule="cosine", cutdepth=0.0, colour=0.0, flip=0.0)
    )
    curve = [float(loss) for _, loss in losses(options().out)]
    assert np.mean(curve[-5:]) < 0.6 * np.mean(curve[:5])


def test_log_has_a_row_a_step_and_the_metrics_after_each_epoch(run):
    result = train(run)
    table = rows(run.out)
    assert tuple(table[0]) == COLUMNS
    steps = [row for row in table if row["loss"]]
    assert [int(row["step"]) for row in steps] == list(range(1, STEPS + 1))
    assert [int(row["epoch"]) for row in steps] == [1] * 4 + [2] * 4 + [3] * 4
    assert float(steps[0]["lr"]) == pytest.approx(3e-4)
    assert float(steps[6]["lr"]) == pytest.approx(1e-3)  # half way up: the paper's schedule
    validations = [row for row in table if not row["loss"]]
    assert [int(row["step"]) for row in validations] == [4, 8, 12]
    assert float(validations[-1]["val_delta1"]) == pytest.approx(result.metrics["delta1"], abs=1e-6)


def test_final_and_best_are_checkpoints_that_load(options):
    result = train(options(ema=0.9))
    assert GLPNForDepthEstimation.from_pretrained(result.final).config.max_depth == 10.0
    scores = [float(row["val_abs_rel"]) for row in rows(result.final.parent) if not row["loss"]]
    assert same(weights(result.best), weights(result.final)) == (min(scores) == scores[-1])


def test_average_is_what_the_formula_gives(options, monkeypatch):
    seen = []
    update = torch.optim.swa_utils.AveragedModel.update_parameters

    def recording(self, model):
        update(self, model)
        seen.append(model.head.head[2].bias.item())

    monkeypatch.setattr(torch.optim.swa_utils.AveragedModel, "update_parameters", recording)
    result = train(options(ema=0.75))
    average = seen[0]
    for value in seen[1:]:
        average = 0.75 * average + 0.25 * value
    assert weights(result.final)["head.head.2.bias"].item() == pytest.approx(average, rel=1e-5)


def test_same_seed_gives_the_same_run_and_worker_processes_change_nothing(options, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    train(options(out=first))
    train(options(out=again, workers=2))
    assert losses(first) == losses(again)
    train(options(out=tmp_path / "other", seed=1))
    assert losses(first) != losses(tmp_path / "other")


@pytest.mark.parametrize("steps", [2, 4, 7])  # within the first epoch, at its end, within the second
def test_run_stopped_by_ctrl_c_goes_on_at_the_same_loss_curve(steps, whole, tmp_path, monkeypatch):
    parts = dataclasses.replace(whole, out=tmp_path / "parts")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(TrainingStopped, match=rf"step {steps} of 12.*same command again"):
            train(parts)
    state = load_state(parts.out, parts.identity())
    assert state is not None
    assert state.step == steps
    train(parts)
    assert rows(parts.out) == rows(whole.out)
    assert same(weights(parts.out / "final"), weights(whole.out / "final"))
    assert same(weights(parts.out / "best"), weights(whole.out / "best"))


def test_killed_run_goes_on_at_the_same_loss_curve(whole, tmp_path):
    parts = dataclasses.replace(whole, out=tmp_path / "parts", save_every=3)
    program = """
import os, pickle, signal, sys
from glpn_deploy.training.learner import Learner
from glpn_deploy.training.trainer import train
step = Learner.step

def killed(self, images, depth, number, total):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, images, depth, number, total)

Learner.step = killed
train(pickle.load(sys.stdin.buffer))
"""
    process = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(parts), check=False)
    assert process.returncode == -signal.SIGKILL
    at = load_state(parts.out, parts.identity())
    assert at is not None
    assert at.step == 6
    assert len(losses(parts.out)) >= 6
    train(parts)
    assert rows(parts.out) == rows(whole.out)
    assert same(weights(parts.out / "final"), weights(whole.out / "final"))


def test_finished_run_is_not_trained_again(run, trained, monkeypatch):
    monkeypatch.setattr(Learner, "step", lambda *_: pytest.fail("it was trained"))
    again = train(run)
    assert again.steps == STEPS
    assert again.metrics["delta1"] == pytest.approx(float(rows(trained.out)[-1]["val_delta1"]), abs=1e-6)
    assert same(weights(again.final), weights(trained.out / "final"))
    assert rows(run.out) == rows(trained.out)


def test_fresh_begins_anew(run, trained, options):
    train(options(fresh=True, seed=1))
    assert len(losses(run.out)) == STEPS
    assert losses(run.out) != losses(trained.out)


@pytest.mark.usefixtures("run")
def test_other_options_are_refused_by_name_and_nothing_is_lost(options):
    kept = state_path(options().out).read_bytes()
    with refused(InputError, got="batch (then 3, now 4), lr (then 0.001, now 0.01)", fix="--fresh"):
        train(options(batch=4, lr=1e-2))
    assert state_path(options().out).read_bytes() == kept
    train(options(workers=1, save_every=7))  # neither moves the loss


def test_loss_that_is_no_number_ends_the_run_and_keeps_the_last_state(options, monkeypatch):
    calls = 0

    def loss(predicted, target):
        nonlocal calls
        calls += 1
        return predicted.mean() * (math.nan if calls == 6 else 1.0)

    monkeypatch.setattr(learner, "silog_loss", loss)
    with pytest.raises(TrainingError, match=r"loss of step 6 is nan, at learning rate .*--clip 1"):
        train(options())
    state = load_state(options().out, options().identity())
    assert state is not None
    assert state.step == 4


def test_gpu_without_enough_memory_ends_with_a_sentence(options, monkeypatch):
    def loss(predicted, target):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(learner, "silog_loss", loss)
    with pytest.raises(TrainingError, match=r"too little memory for 3 samples a step; use a smaller --batch"):
        train(options())


def test_killed_readers_end_with_one_sentence(options, monkeypatch):
    step, handler = Learner.step, signal.getsignal(signal.SIGCHLD)

    def killing(self, *arguments):
        for process in multiprocessing.active_children():
            process.kill()
        return step(self, *arguments)

    monkeypatch.setattr(Learner, "step", killing)
    with refused(BackendError, got="process that reads samples ended", fix="fewer --workers"):
        train(options(workers=2, epochs=20))
    assert signal.getsignal(signal.SIGCHLD) is handler  # torch's would raise here, for the second one


def test_bf16_trains_on_a_cpu(options):
    result = train(options(precision="bf16"))
    assert all(math.isfinite(float(loss)) for _, loss in losses(result.final.parent))
    tensors = weights(result.final).values()
    assert {tensor.dtype for tensor in tensors} == {torch.float32, torch.int64}


def test_shrunk_rooms_average_the_image_and_keep_the_depth_of_the_corner(options):
    from glpn_deploy.training.data.sources import open_data

    whole, _ = open_data(options(size=(64, 64)))
    half, _ = open_data(options(size=(64, 64), shrink=2))
    sample, small = whole[3], half[3]
    np.testing.assert_array_equal(small.depth, sample.depth[::2, ::2])
    exact = sample.image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(small.image - exact).max() <= 0.5


def write_folder(root: Path, count: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "depth"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(image).save(root / "images" / f"{index:02}.png")
        depth = rng.integers(500, 9000, size).astype(np.uint16)
        Image.fromarray(depth).save(root / "depth" / f"{index:02}.png")


def test_folder_holds_out_every_20th_pair_and_trains_on_the_rest(options, tmp_path):
    write_folder(tmp_path / "pairs", 21, (40, 50))
    folder = options(dataset="folder", path=tmp_path / "pairs", depth_scale=1000.0, cache=None, epochs=1)
    result = train(folder)
    assert result.steps == 19 // 3


def test_image_smaller_than_the_crop_is_named_with_its_size(options, tmp_path):
    write_folder(tmp_path / "pairs", 6, (40, 50))
    for workers in (0, 1):
        folder = options(
            dataset="folder",
            path=tmp_path / "pairs",
            depth_scale=1000.0,
            cache=None,
            crop=(64, 64),
            workers=workers,
        )
        with pytest.raises(DatasetError, match=r"0\d\.png is 50x40; expected at least the crop's 64x64"):
            train(folder)


def test_fewer_samples_than_a_batch_are_refused(options):
    with refused(InputError, got="12 samples and a batch takes 13"):
        train(options(batch=13))


def test_damaged_state_is_refused_with_a_way_out(run):
    path = state_path(run.out)
    path.write_bytes(path.read_bytes()[:1000])
    with refused(CheckpointError, got="state.pt cannot be used", fix="--fresh"):
        train(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "option lr is 0.0; expected a finite number above 0"),
        ({"lr": math.nan}, "option lr is nan"),
        ({"batch": 1}, "at least 2"),
        ({"epochs": 0}, "at least 1"),
        ({"cutdepth": 1.5}, "at least 0 and at most 1"),
        ({"ema": 1.0}, "at least 0 and below 1"),
        ({"crop": (40, 64)}, "'40x64'; expected multiples of 32 px"),
        ({"size": (0, 64)}, "multiples of 32 px"),
        ({"schedule": "step"}, "paper, cosine"),
        ({"loss": "l2"}, "silog, log-l1"),
        ({"path": Path("here")}, "none for rooms"),
        ({"dataset": "folder"}, "folder data set has no path"),
        ({"dataset": "nyu", "path": Path("here"), "cache": None, "shrink": 2}, "protocol of nyu"),
    ],
)
def test_unusable_options_are_refused(changes, message, options):
    with pytest.raises(InputError, match=message):
        options(**changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity", 3),
        ("step", "1"),
        ("step", -1),
        ("validated", None),
        ("best", []),
        ("learner", 0),
        ("learner", {}),
    ],
)
def test_a_state_of_other_kinds_is_refused(name, value, run):
    state = torch.load(state_path(run.out), weights_only=True)
    torch.save({**state, name: value}, state_path(run.out))
    with pytest.raises(CheckpointError):
        train(run)


def test_a_second_run_in_one_folder_says_so_and_stops(options):
    run = options()
    run.out.mkdir(parents=True, exist_ok=True)
    with only_one(run.out / LOCK, "another glpn-train"):
        before = sorted(run.out.rglob("*"))
        with refused(WriteError, got="another glpn-train is working in"):
            train(run)
        assert sorted(run.out.rglob("*")) == before
    train(run)
    assert not (run.out / LOCK).exists()
