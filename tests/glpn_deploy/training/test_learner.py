"""One step of training, and the statistics of an averaged network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.model.modeling import silog_loss
from glpn_deploy.training.device import choose_device, choose_numerics
from glpn_deploy.training.learner import Learner, log_l1_loss
from glpn_deploy.training.start import starting_model
from tests.refusals import refused

CPU = torch.device("cpu")


def make(options) -> Any:  # a Learner, whose layers are tensors or modules to a type checker
    model = starting_model(options, max_depth=10.0)
    return Learner(model, options, CPU)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return images, torch.rand(4, 32, 32, generator=generator) * 5 + 0.5


def test_step_reports_the_silog_loss_of_its_batch(options):
    settings = options(colour=0.0, drop_path=0.0)
    images, depth = batch()
    lr, loss = make(settings).step(images, depth, number=0, total=10)
    assert lr == pytest.approx(3e-4)
    with torch.no_grad():
        predicted = make(settings).model(images.permute(0, 3, 1, 2) / 255).predicted_depth
    assert loss == pytest.approx(float(silog_loss(predicted, depth)), rel=1e-5)


def test_log_l1_loss_is_what_the_formula_gives():
    predicted = torch.tensor([[[1.0, 2.0], [4.0, 8.0]]], requires_grad=True)
    target = torch.tensor([[[2.0, 2.0], [1.0, 0.0]]])  # one pixel without ground truth
    loss = log_l1_loss(predicted, target)
    assert float(loss.detach()) == pytest.approx((math.log(2) + 0 + math.log(4)) / 3, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, predicted)
    torch.testing.assert_close(gradient, torch.tensor([[[-1 / 3, 0.0], [1 / 12, 0.0]]]))
    assert float(log_l1_loss(predicted, torch.zeros_like(target)).detach()) == 0.0


def test_step_takes_the_loss_it_is_told(options):
    settings = options(colour=0.0, drop_path=0.0, loss="log-l1")
    images, depth = batch()
    _, loss = make(settings).step(images, depth, number=0, total=10)
    with torch.no_grad():
        predicted = make(settings).model(images.permute(0, 3, 1, 2) / 255).predicted_depth
    assert loss == pytest.approx(float((predicted.log() - depth.log()).abs().mean()), rel=1e-5)


def test_first_step_of_adam_is_the_learning_rate_wherever_there_is_a_gradient(options):
    learner = make(options(colour=0.0))
    before = learner.model.head.head[2].bias.detach().clone()
    lr, _ = learner.step(*batch(), number=0, total=10)
    moved = (learner.model.head.head[2].bias.detach() - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, lr), rtol=1e-3, atol=0)


def test_gradient_is_cut_to_the_largest_norm(options, monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def recording(parameters, largest):
        parameters = list(parameters)
        clip(parameters, largest)
        norms.append(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item())

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recording)
    make(options(clip=0.01)).step(*batch(), number=0, total=10)
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_calibration_measures_the_statistics_of_the_averaged_network(options):
    learner = make(options(ema=0.5))
    images, depth = batch()
    for number in range(3):
        learner.step(images, depth, number, total=10)
    layer = learner.network.decoder.stages[1].fusion.convolutional_layer1
    seen = []
    layer[0].register_forward_hook(lambda *call: seen.append(call[2].mean((0, 2, 3))))
    learner.calibrate([images[:2], images[2:]])
    expected = torch.stack(seen).mean(0)
    torch.testing.assert_close(layer[1].running_mean, expected)
    assert layer[1].momentum == 0.1  # and goes on as before


def test_devices_and_precisions_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with refused(BackendError, got="PyTorch finds none", fix="leave --device out"):
        choose_device("cuda")
    with refused(InputError, got="fp16 on a CPU", expected="fp32 or bf16"):
        choose_numerics("fp16", CPU)
    assert choose_numerics("auto", CPU).dtype is None
