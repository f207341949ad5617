"""The activation functions that ``hidden_act`` can name, written as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from glpn_deploy.model.settings.checks import ACTIVATIONS

Node = Callable[..., Any]  # kind, inputs, attributes: the output's name
Scalar = Callable[[float], str]


def write_activation(
    name: str, x: str, node: Node, scalar: Scalar, opset: int, slope: Callable[[], str]
) -> str:
    """Adds the nodes of one activation and gives its output's name.

    Args:
        name: The activation, by transformers' name.
        x: The input's name.
        node: Adds a node of a kind, with inputs and attributes.
        scalar: Adds a float32 constant.
        opset: Gelu is one node from 20 on.
        slope: Adds PReLU's trained slope.
    """
    kind = ACTIVATIONS[name]
    if kind in _WRITERS:
        return str(_WRITERS[kind](x, node, scalar))
    if kind in _NODES:
        operator, attributes = _NODES[kind]
        return str(node(operator, [x], **attributes))
    if kind == "linear":
        return x
    if kind == "prelu":
        return str(node("PRelu", [x, slope()]))
    y = _gelu(x, node, scalar, opset, tanh=kind == "gelu_tanh")
    return str(node("Clip", [y, scalar(-10.0), scalar(10.0)])) if kind == "gelu_10" else y


def _gelu(x: str, node: Node, scalar: Scalar, opset: int, *, tanh: bool) -> str:
    if opset >= 20:
        return str(node("Gelu", [x], approximate="tanh" if tanh else "none"))
    if tanh:
        cubic = node("Mul", [node("Mul", [x, x]), x])
        cubic = node("Add", [x, node("Mul", [cubic, scalar(0.044715)])])
        inner = node("Tanh", [node("Mul", [cubic, scalar(math.sqrt(2 / math.pi))])])
    else:  # x / sqrt(2), Erf, + 1, * x, * 0.5: the order runtimes fuse back into Gelu
        inner = node("Erf", [node("Div", [x, scalar(math.sqrt(2))])])
    return str(node("Mul", [node("Mul", [x, node("Add", [inner, scalar(1.0)])]), scalar(0.5)]))


def _laplace(x: str, node: Node, scalar: Scalar) -> str:
    shifted = node("Div", [node("Sub", [x, scalar(0.707107)]), scalar(0.282095 * math.sqrt(2))])
    return str(node("Mul", [node("Add", [node("Erf", [shifted]), scalar(1.0)]), scalar(0.5)]))


def _mish(x: str, node: Node, scalar: Scalar) -> str:
    return str(node("Mul", [x, node("Tanh", [node("Softplus", [x])])]))


def _quick_gelu(x: str, node: Node, scalar: Scalar) -> str:
    return str(node("Mul", [x, node("Sigmoid", [node("Mul", [x, scalar(1.702)])])]))


def _relu2(x: str, node: Node, scalar: Scalar) -> str:
    positive = node("Relu", [x])
    return str(node("Mul", [positive, positive]))


def _relu6(x: str, node: Node, scalar: Scalar) -> str:
    return str(node("Clip", [x, scalar(0.0), scalar(6.0)]))


def _silu(x: str, node: Node, scalar: Scalar) -> str:
    return str(node("Mul", [x, node("Sigmoid", [x])]))


def _sqrtsoftplus(x: str, node: Node, scalar: Scalar) -> str:
    return str(node("Sqrt", [node("Softplus", [x])]))


_WRITERS = {
    "laplace": _laplace,
    "mish": _mish,
    "quick_gelu": _quick_gelu,
    "relu2": _relu2,
    "relu6": _relu6,
    "silu": _silu,
    "sqrtsoftplus": _sqrtsoftplus,
}
_NODES: Mapping[str, tuple[str, dict[str, float]]] = {
    "hardswish": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
}
