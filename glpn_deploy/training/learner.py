"""A network, its optimiser and the average of its weights: what one step of training changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from glpn_deploy.errors import CheckpointError, GlpnError, first_line
from glpn_deploy.model.modeling import GLPNForDepthEstimation, silog_loss
from glpn_deploy.training.data.augment import random_colour
from glpn_deploy.training.device import choose_numerics
from glpn_deploy.training.options import TrainOptions
from glpn_deploy.training.schedule import learning_rate

_SMALLEST_DEPTH = 1e-4  # [m]; half precision can round the sigmoid to 0, whose logarithm is infinite


def log_l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of |ln(target) - ln(predicted)| over the pixels with target > 0.

    Squares, as in SiLog, let the few pixels that are far off (edges, missed legs of chairs) decide the step;
    δ1 and AbsRel count how many are near.

    Args:
        predicted: ``(B, H, W)``, metres, above 0.
        target: ``(B, H, W)``, metres; 0 or less marks a pixel without ground truth.

    Returns:
        A scalar; 0 where no pixel is valid.
    """
    valid = target > 0
    if not bool(valid.any()):
        return predicted.sum() * 0.0
    return (torch.log(target[valid]) - torch.log(predicted[valid])).abs().mean()


class TrainingError(GlpnError):
    """A run that cannot go on, such as one whose loss is no number any more."""

    exit_code = 1


class Learner:
    """Takes the steps of a run.

    Everything random in a step is drawn from the run's seed and the step's number, so that a step is
    the same whether or not the run was stopped before it.
    """

    def __init__(self, model: GLPNForDepthEstimation, options: TrainOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.model = model.to(device)
        self._average: AveragedModel | None = None
        if options.ema is not None:
            average = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
        self._optimizer = kind(
            self.model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True
        )
        self._numerics = choose_numerics(options.precision, device)

    @property
    def network(self) -> GLPNForDepthEstimation:
        """What is validated and written: the average where there is one."""
        if self._average is None:
            return self.model
        network = self._average.module
        assert isinstance(network, GLPNForDepthEstimation)
        return network

    def step(self, images: Tensor, depth: Tensor, number: int, total: int) -> tuple[float, float]:
        """One step of the optimiser.

        Args:
            images: (B, H, W, 3) uint8 RGB.
            depth: (B, H, W) metres, 0 where unknown.
            number: Of the step, from 0.
            total: Steps of the whole run.

        Returns:
            The learning rate and the loss.

        Raises:
            TrainingError: The loss is infinite or NaN, or the GPU has too little memory; nothing was changed.
        """
        seeds = np.random.SeedSequence([self.options.seed, number]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        lr = learning_rate(number, total, self.options.lr, self.options.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        images = random_colour(
            self._pixels(images), self.options.colour, np.random.default_rng(seeds[1])
        ).contiguous()
        depth = depth.to(self.device, non_blocking=True)
        try:
            loss = self._loss(images, depth)
            value = float(loss.detach())
            if math.isfinite(value):
                self._descend(loss)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"the GPU has too little memory for {len(images)} samples a step",
                fix="use a smaller --batch or --crop",
            ) from None
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {number + 1} is {value}, at learning rate {lr:.2e}",
                expected="a finite loss",
                fix="begin anew with a lower --lr, or with --clip 1 (--fresh); the last state and "
                f"{self.options.out / 'best'} are from before",
            )
        return lr, value

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measures the batch norms' statistics of the averaged network, if there is one, anew.

        An average of statistics is not the statistics of averaged weights (Izmailov et al., 2018,
        arXiv:1803.05407): on the half-trained demo network depth was 6 % too small before and 3 % after.

        Args:
            batches: (B, H, W, 3) uint8 RGB.
        """
        if self._average is not None:
            torch.manual_seed(self.options.seed)  # for stochastic depth
            update_bn(map(self._pixels, batches), self.network)

    def _pixels(self, images: Tensor) -> Tensor:
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255.0)

    def _loss(self, images: Tensor, depth: Tensor) -> Tensor:
        with self._numerics.autocast():
            predicted = self.model(images).predicted_depth
        loss_of = silog_loss if self.options.loss == "silog" else log_l1_loss
        return loss_of(predicted.float().clamp_min(_SMALLEST_DEPTH), depth)

    def _descend(self, loss: Tensor) -> None:
        scaler = self._numerics.scaler
        self._optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.options.clip is not None:
            scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        scaler.step(self._optimizer)
        scaler.update()
        if self._average is not None:
            self._average.update_parameters(self.model)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Everything that steps have changed."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._numerics.scaler.state_dict(),
            "ema": {} if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Goes back to a state that `state_dict` gave; the optimiser's settings stay this run's own."""
        try:
            self.model.load_state_dict(state["model"])
            settings = self._optimizer.state_dict()["param_groups"]
            kept = {"state": state["optimizer"]["state"], "param_groups": settings}
            self._optimizer.load_state_dict(kept)
            for parameter, moments in self._optimizer.state.items():
                for name, value in moments.items():
                    if (
                        value.shape != (() if name == "step" else parameter.shape)
                        or not value.is_contiguous()
                    ):
                        raise ValueError(f"{name} is of shape {tuple(value.shape)}")
            if state["scaler"]:
                self._numerics.scaler.load_state_dict(state["scaler"])
            if self._average is not None:
                self._average.load_state_dict(state["ema"])
        except Exception as error:  # torch checks little of what it is given
            raise CheckpointError(
                f"the training state does not fit the network ({type(error).__name__}: {first_line(error)})",
                fix="begin anew with --fresh, or give another folder",
            ) from None
