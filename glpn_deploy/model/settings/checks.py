"""The checks of `GLPNConfig`: types when a value is set, ranges and contradictions when a model is made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

from glpn_deploy.errors import ConfigError

NormEps = Literal["hf", "original"]

ACTIVATIONS: dict[str, str] = {
    "gelu": "gelu",
    "gelu_10": "gelu_10",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "hardswish": "hardswish",
    "laplace": "laplace",
    "leaky_relu": "leaky_relu",
    "linear": "linear",
    "mish": "mish",
    "prelu": "prelu",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "sqrtsoftplus": "sqrtsoftplus",
    "swish": "silu",
    "tanh": "tanh",
}
"""HF's names of activations, and the function that each is: several names differ by rounding only."""

PER_STAGE = (
    "depths",
    "sr_ratios",
    "hidden_sizes",
    "patch_sizes",
    "strides",
    "num_attention_heads",
    "mlp_ratios",
)
_WHOLE = ("num_channels", "num_encoder_blocks", "decoder_hidden_size")
_POSITIVE = ("max_depth", "initializer_range", "layer_norm_eps")
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")
_FLAGS = ("output_hidden_states", "output_attentions", "return_dict")
_MOST = 65_536  # beyond any network that fits a machine: a slip or an attack, not a size
_MOST_STAGES, _MOST_BLOCKS = 8, 512  # GLPN has 4 and at most 52; modules are made one by one
MOST_DEPTH = 1_000.0
"""Metres. Depth networks are trained up to 80 m (KITTI) or 300 m (lidar); tolerances are shares of max_depth,
so that an absurd one would let any depth pass as right."""


def check_type(name: str, value: object) -> None:
    """Checks that a value is of its field's type; other names may hold anything."""
    if name in PER_STAGE:
        if not isinstance(value, (list, tuple)):
            raise _bad(name, value, "a list with one number per stage")
        for item in value:
            if name == "mlp_ratios":
                _number(name, item, "a finite number above 0")
            else:
                _whole_number(name, item)
    elif name in _WHOLE:
        _whole_number(name, value)
    elif name in _POSITIVE:
        _number(name, value, "a finite number above 0")
    elif name in _PROBABILITIES:
        _number(name, value, "a number from 0 up to, not including, 1")
    elif name in _FLAGS and not isinstance(value, (bool, type(None))):
        raise _bad(name, value, "true or false")
    elif name == "hidden_act" and not isinstance(value, str):
        raise _bad(name, value, f"one of {', '.join(ACTIVATIONS)}")
    elif name == "norm_eps" and not isinstance(value, str):
        raise _bad(name, value, f"one of {', '.join(get_args(NormEps))}")


def check(config: Any) -> None:
    """Checks everything that a network needs of its `GLPNConfig`."""
    stages = config.num_encoder_blocks
    _at_least_one("num_encoder_blocks", stages)
    for name in PER_STAGE:
        values = getattr(config, name)
        if len(values) != stages:
            raise _bad(name, list(values), f"num_encoder_blocks = {stages} entries")
        for value in values:
            if name == "mlp_ratios":
                _above_zero(name, value)
            else:
                _at_least_one(name, value)
    _check_extent(stages, config.depths)
    for name in ("num_channels", "decoder_hidden_size"):
        _at_least_one(name, getattr(config, name))
    for name in _POSITIVE:
        _above_zero(name, getattr(config, name))
    if config.max_depth > MOST_DEPTH:
        raise _bad("max_depth", config.max_depth, f"at most {MOST_DEPTH:g} m")
    for name in _PROBABILITIES:
        if not 0 <= getattr(config, name) < 1:
            raise _bad(name, getattr(config, name), "a number from 0 up to, not including, 1")
    if config.hidden_act not in ACTIVATIONS:
        raise _bad("hidden_act", config.hidden_act, f"one of {', '.join(ACTIVATIONS)}")
    if config.norm_eps not in get_args(NormEps):
        raise _bad("norm_eps", config.norm_eps, f"one of {', '.join(get_args(NormEps))}")
    for size, heads in zip(config.hidden_sizes, config.num_attention_heads, strict=True):
        if size % heads:
            raise _bad("hidden_sizes", size, f"a multiple of its {heads} attention heads")
    for hidden, ratio in zip(config.hidden_sizes, config.mlp_ratios, strict=True):
        if not 1 <= hidden * ratio <= 16 * _MOST:
            raise _bad("mlp_ratios", ratio, "at least one hidden channel, and not millions")
    if any(size % 2 == 0 for size in config.patch_sizes):
        raise _bad("patch_sizes", list(config.patch_sizes), "odd kernel sizes")
    doubling = [4] + [2] * (stages - 1)
    if list(config.strides) != doubling:
        raise _bad("strides", list(config.strides), f"{doubling}, which the decoder doubles back")
    if config.decoder_hidden_size % 2:
        raise _bad("decoder_hidden_size", config.decoder_hidden_size, "an even number")
    index = config.head_in_index
    if not isinstance(index, int) or not -stages <= index < stages:
        raise _bad("head_in_index", index, f"an index from {-stages} to {stages - 1}")
    if config.attn_implementation not in {None, "eager"}:
        raise _bad("attn_implementation", config.attn_implementation, "eager, GLPN's only one")


def _check_extent(stages: int, depths: Sequence[int]) -> None:
    """Refuses a network of so many modules that making it would take minutes."""
    if stages > _MOST_STAGES:
        raise _bad("num_encoder_blocks", stages, f"at most {_MOST_STAGES}")
    if sum(depths) > _MOST_BLOCKS:
        raise _bad("depths", list(depths), f"at most {_MOST_BLOCKS} blocks in all")


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"config value {name} = {value!r}", expected=expected)


def _whole_number(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(name, value, "a whole number of at least 1")


def _number(name: str, value: object, expected: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _bad(name, value, expected)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise _bad(name, value, "a whole number of at least 1")
    if value > _MOST:
        raise _bad(name, value, f"at most {_MOST}")


def _above_zero(name: str, value: float) -> None:
    if not 0 < value <= sys.float_info.max:  # false for NaN; math.isfinite(10**400) raises
        raise _bad(name, value, "a finite number above 0")
