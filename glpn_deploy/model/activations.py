"""transformers' activation functions by name: what ``hidden_act`` can say."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glpn_deploy.model.settings.checks import ACTIVATIONS


class Function(nn.Module):
    """A function without weights as a module, shown by its name."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x: Tensor) -> Tensor:
        """Applies it to every element."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The name."""
        return self.name


def _gelu_10(x: Tensor) -> Tensor:
    return F.gelu(x).clamp(-10, 10)


def _laplace(x: Tensor) -> Tensor:
    """Of Ma et al., Mega (arXiv:2209.10655): a normal distribution's, near the squared ReLU."""
    return 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _sqrtsoftplus(x: Tensor) -> Tensor:
    return torch.sqrt(F.softplus(x))


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "linear": nn.Identity,
    "mish": nn.Mish,
    "prelu": nn.PReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_10": _gelu_10,
    "laplace": _laplace,
    "quick_gelu": _quick_gelu,
    "relu2": _relu2,
    "sqrtsoftplus": _sqrtsoftplus,
}


def activation(name: str) -> nn.Module:
    """The activation of that name in transformers, as `ACTIVATIONS` lists them."""
    kind = ACTIVATIONS[name]
    return Function(kind, _FUNCTIONS[kind]) if kind in _FUNCTIONS else _MODULES[kind]()
