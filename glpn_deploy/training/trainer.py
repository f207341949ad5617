"""The training loop: the paper's recipe by default, at the same loss curve however often it is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor

from glpn_deploy import progress
from glpn_deploy.atomic import make_folder, only_one
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.errors import GlpnError
from glpn_deploy.progress import Step
from glpn_deploy.training.checkpointing import TrainState, load_state, save_state, state_path
from glpn_deploy.training.data.samples import (
    Augmentation,
    StepBatches,
    TrainSamples,
    calibration_images,
    iterate,
    make_loader,
    reader_errors,
)
from glpn_deploy.training.data.sources import crop_size, open_data
from glpn_deploy.training.device import choose_device
from glpn_deploy.training.history import History
from glpn_deploy.training.interruption import stop_requested
from glpn_deploy.training.learner import Learner, TrainingError
from glpn_deploy.training.options import TrainOptions
from glpn_deploy.training.start import check_crop, starting_model
from glpn_deploy.training.validation import validate

__all__ = ["TrainResult", "TrainingError", "TrainingStopped", "train"]

LOCK = ".running"
"""Held in a run's folder while it trains."""

StopAsked: TypeAlias = Callable[[], bool]


class TrainingStopped(GlpnError):  # noqa: N818 - it is what the user asked for
    """Ctrl-C or SIGTERM ended a run after its state was kept."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a finished run gives.

    Attributes:
        best: Checkpoint of the epoch with the lowest ``abs_rel`` on the validation samples.
        seconds: Time it trained, over all its parts [s].
        metrics: Of the final checkpoint on the validation samples.
    """

    final: Path
    best: Path
    steps: int
    seconds: float
    metrics: dict[str, float]
    parameters: int


def train(options: TrainOptions) -> TrainResult:
    """Trains a network, or goes on with the run whose state lies in ``options.out``.

    Raises:
        TrainingStopped: Ctrl-C or SIGTERM; the state is kept and the same call goes on from it.
        TrainingError: The loss became infinite or NaN.
        WriteError: Another run is working in ``options.out``.
        GlpnError: Options, data or checkpoint are not usable, or a file cannot be written.
    """
    new = not options.out.exists()
    try:
        with only_one(make_folder(options.out) / LOCK, "another glpn-train"):
            return _train(options)
    finally:
        if new:
            with contextlib.suppress(OSError):
                options.out.rmdir()  # goes where it is empty: the run never began


def _train(options: TrainOptions) -> TrainResult:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    state = None if options.fresh else load_state(options.out, options.identity())
    train_data, val_data = open_data(options)
    crop = crop_size(options, train_data)
    model = starting_model(options, options.max_depth or train_data.max_depth)
    check_crop(model, crop)
    augmentation = Augmentation(crop, options.flip, options.cutdepth, options.cutdepth_scaling)
    samples = TrainSamples(train_data, augmentation, options.seed)
    run = _Run(options, Learner(model, options, device), samples, val_data, state)
    with stop_requested() as stop, reader_errors():
        return run.complete(stop)


class _Run:
    """A run in progress: the learner, and what has been done."""

    def __init__(
        self,
        options: TrainOptions,
        learner: Learner,
        samples: TrainSamples,
        val_data: DepthDataset,
        state: TrainState | None,
    ) -> None:
        self.options, self.learner = options, learner
        self.samples, self.val_data = samples, val_data
        self.step, self.validated, self.best, self.seconds = 0, 0, math.inf, 0.0
        if state is not None:
            self.step, self.validated = state.step, state.validated
            self.best, self.seconds = state.best, state.seconds
            learner.load_state_dict(state.learner)
        self.batches = StepBatches(len(samples.data), options.batch, options.epochs, self.step, options.seed)
        self.loader = make_loader(samples, self.batches, options.workers, pin=learner.device.type == "cuda")

    def complete(self, stop: StopAsked) -> TrainResult:
        """Runs the steps that are left."""
        out = self.options.out
        metrics: dict[str, float] | None = None
        batches = iterate(self.loader)
        with History(out, self.step, self.validated) as history:
            while True:
                done = self.step // self.batches.epoch_steps
                if done > self.validated:  # also where a run was stopped between the two
                    metrics = self._validate(history, done, stop)
                if done == self.options.epochs:
                    break
                self._epoch(batches, history, done, stop)
        network = self.learner.network
        network.save_pretrained(out / "final")
        if metrics is None:  # the run had been finished before
            metrics = validate(network, self.val_data, stop) or self._stop()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return TrainResult(out / "final", out / "best", self.step, self.seconds, metrics, parameters)

    def _epoch(
        self, batches: Iterator[tuple[Tensor, Tensor]], history: History, epoch: int, stop: StopAsked
    ) -> None:
        """The steps that are left of an epoch."""
        last = (epoch + 1) * self.batches.epoch_steps
        left, losses = last - self.step, 0.0
        with progress.step(f"Epoch {epoch + 1}/{self.options.epochs}", left) as shown:
            begun = before = time.perf_counter()
            while self.step < last:
                images, depth = next(batches)
                lr, loss = self.learner.step(images, depth, self.step, self.batches.total)
                self.step += 1
                losses += loss
                history.add_step(self.step, epoch + 1, lr, loss)
                now = time.perf_counter()
                self.seconds += now - before
                before = now
                self._show(shown, loss, lr, (self.step - last + left) / (now - begun))
                if stop():
                    self._keep(history)
                    self._stop()
                if self.step % self.options.save_every == 0 and self.step < last:
                    self._keep(history)
            images_per_second = self.options.batch * left / (time.perf_counter() - begun)
            shown.finish(f"loss {losses / left:.4f}  {images_per_second:.1f} images/s")
        self._keep(history)

    def _validate(self, history: History, epoch: int, stop: StopAsked) -> dict[str, float]:
        self.learner.calibrate(calibration_images(self.samples, self.options.batch))
        metrics = validate(self.learner.network, self.val_data, stop)
        if metrics is None:
            self._stop()
        if metrics["abs_rel"] < self.best:
            self.best = metrics["abs_rel"]
            self.learner.network.save_pretrained(self.options.out / "best")
        history.add_validation(self.step, epoch, metrics)
        self.validated = epoch
        self._keep(history)
        return metrics

    def _show(self, shown: Step, loss: float, lr: float, rate: float) -> None:
        left = int((self.batches.total - self.step) / rate)
        shown.advance(
            f"loss {loss:.4f}  lr {lr:.2e}  {rate * self.options.batch:.1f} images/s  "
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        )

    def _keep(self, history: History) -> None:
        history.flush()
        state = TrainState(
            step=self.step,
            validated=self.validated,
            best=self.best,
            seconds=self.seconds,
            learner=self.learner.state_dict(),
            identity=self.options.identity(),
        )
        save_state(state, self.options.out)

    def _stop(self) -> NoReturn:
        raise TrainingStopped(
            f"stopped after step {self.step} of {self.batches.total}; "
            f"{state_path(self.options.out)} holds the state",
            fix="run the same command again to go on from there",
        )
