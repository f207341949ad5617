"""Networks to trace, as small as they can be: tracing takes seconds whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation

TWO_STAGES = GLPNConfig(
    num_encoder_blocks=2,
    depths=(1, 1),
    sr_ratios=(8, 1),
    hidden_sizes=(8, 16),
    patch_sizes=(7, 3),
    strides=(4, 2),
    num_attention_heads=(1, 2),
    mlp_ratios=(2, 3),
    decoder_hidden_size=12,
    hidden_act="gelu",
)


class Lora(nn.Module):
    """A linear layer with a low-rank update beside it, as adapters put them in."""

    def __init__(self, linear: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.up(self.down(x))

    def merged(self) -> nn.Linear:
        with torch.no_grad():
            self.linear.weight += self.up.weight @ self.down.weight
        return self.linear


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.norm(self.conv1(x))))


class OwnHead(nn.Module):
    """Another head: wider, deeper, and softplus instead of a sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = Residual(channels)
        self.wider = nn.Conv2d(channels, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 1, 1)

    def forward(self, decoded: list[Tensor]) -> Tensor:
        x = nn.functional.gelu(self.wider(self.block(decoded[-1])))
        return nn.functional.softplus(self.last(x))[:, 0] + 0.5


class Small(nn.Module):
    """No GLPN at all, but for its input and output."""

    def __init__(self, gives: Callable[[Tensor], object] = lambda depth: depth.squeeze(1)) -> None:
        super().__init__()
        self.config = GLPNConfig(max_depth=10)
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        self.gives = gives

    def forward(self, pixel_values: Tensor) -> object:
        return self.gives(10 * torch.sigmoid(self.conv(pixel_values)))


@pytest.fixture(scope="session")
def small() -> type[Small]:
    return Small


@pytest.fixture(scope="session")
def lora() -> type[Lora]:
    return Lora


@pytest.fixture(scope="session")
def two_stages(make_model) -> GLPNForDepthEstimation:
    """To be read only."""
    model: GLPNForDepthEstimation = make_model(TWO_STAGES)
    return model


@pytest.fixture(scope="session")
def changed(make_model) -> GLPNForDepthEstimation:
    """A GLPN with another head and an adapter that is not merged; to be read only."""
    model: Any = make_model(TWO_STAGES.replace(decoder_hidden_size=16), 1)
    torch.manual_seed(0)
    model.head = OwnHead(16)
    attention = model.glpn.encoder.block[1][0].attention.self
    attention.query = Lora(attention.query)
    return model.eval()
