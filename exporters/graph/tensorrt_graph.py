"""GLPN written for TensorRT: the network that `onnx_graph` writes, in the forms that NVIDIA's compiler fuses.

One head as two of half the queries each; dense1 with a dilation, which changes nothing for a 1x1 kernel but
keeps it a convolution; queries without a bias. What each gave, and what did not:
docs/decisions/tensorrt-graph.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from glpn_deploy.exporters.graph.onnx_graph import Array, GlpnGraph
from glpn_deploy.model.config import GLPNConfig

_MEAN = 0.25
"""What the normalised tokens are shifted to on average where a query's bias is folded: small beside their
deviation of 1, so that they keep their digits."""


class TensorRTGraph(GlpnGraph):
    """Writes one GLPN network for TensorRT; arguments as of `GlpnGraph`."""

    dense1_dilation = 2

    def __init__(self, config: GLPNConfig, weights: Mapping[str, Array], opset: int) -> None:
        super().__init__(config, fold_query_biases(config, weights), opset)

    def _key_value(self, scope: str, source: str, heads: int) -> str:
        if heads > 1:
            return super()._key_value(scope, source, heads)
        weight = self._get(f"{scope}.weight").T
        pair = self._parameter(f"{scope}.weight_t", np.concatenate([weight, weight], axis=1))
        return str(self.b.node(scope, "MatMul", [source, pair]))

    def _attend(self, scope: str, q: str, k: str, v: str, heads: int, width: int) -> str:
        """A single head as two, of half the queries each: at batch 1 it is not fused otherwise."""
        if heads > 1:
            return super()._attend(scope, q, k, v, heads, width)
        node, pair = self.b.node, self.b.ints(0, -1, 2, width)
        q = node(f"{scope}.q", "Reshape", [q, self.b.ints(0, 2, -1, width)])  # tokens are a multiple of 64
        k = self._transpose(f"{scope}.k", node(f"{scope}.k", "Reshape", [k, pair]), (0, 2, 3, 1))
        v = self._transpose(f"{scope}.v", node(f"{scope}.v", "Reshape", [v, pair]), (0, 2, 1, 3))
        weights = node(scope, "Softmax", [node(f"{scope}.scores", "MatMul", [q, k])], axis=-1)
        context = node(f"{scope}.context", "MatMul", [weights, v])
        return str(node(scope, "Reshape", [context, self.b.ints(0, -1, width)]))


def fold_query_biases(config: GLPNConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of the same network whose queries have no bias, wherever that costs no digits.

    A LayerNormalization gives x = g * n + b, and the mean of n over its channels is 0. So the mean of x / g
    is that of b / g, for every token: a weight of 1 / g makes a constant of x, and that constant times the
    bias is added to the query's weight. To keep it away from 0, b is shifted by a multiple of g first; what
    else reads x takes the shift back, exactly: the reducing convolution has no padding, keys may differ by a
    constant, and a value's bias reaches the output as it is.

    Args:
        config: The network's hyper-parameters.
        weights: HF's tensor names to arrays.

    Returns:
        All weights; those that changed are float64. The biases that are gone are arrays of zeros.
    """
    folded = dict(weights)
    for name in weights:
        found = re.fullmatch(r"(glpn\.encoder\.block\.(\d+)\.\d+)\.layer_norm_1\.bias", name)
        if found:
            _fold_block(folded, found[1], config.sr_ratios[int(found[2])] > 1)
    return folded


def _fold_block(weights: dict[str, Array], block: str, reduced: bool) -> None:
    attention = f"{block}.attention.self"
    gain, bias = (weights[f"{block}.layer_norm_1.{n}"].astype(np.float64) for n in ("weight", "bias"))
    if not gain.all():
        return
    ratio = bias / gain
    shift = _MEAN - ratio.mean()
    # Rounding of x against what the constant is: beyond it, the bias would lose digits.
    if np.sqrt((1 + (ratio + shift) ** 2).sum()) > gain.size * _MEAN:
        return
    moved = shift * gain
    weights[f"{block}.layer_norm_1.bias"] = bias + moved
    reader, sides = (f"{attention}.sr", (1, 2, 3)) if reduced else (f"{attention}.value", (1,))
    weight = weights[f"{reader}.weight"].astype(np.float64)
    taken = (weight * moved.reshape(1, -1, *[1] * (weight.ndim - 2))).sum(axis=sides)
    weights[f"{reader}.bias"] = weights[f"{reader}.bias"].astype(np.float64) - taken
    constant = 1 / (gain * gain.size * _MEAN)
    query, added = (weights[f"{attention}.query.{n}"].astype(np.float64) for n in ("weight", "bias"))
    weights[f"{attention}.query.weight"] = query + np.outer(added - query @ moved, constant)
    weights[f"{attention}.query.bias"] = np.zeros_like(added)
