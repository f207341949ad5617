"""GLPNConfig: the hyper-parameters of a GLPN network, read from and written to HF's config.json."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from glpn_deploy.errors import ConfigError

HiddenAct = Literal["gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh"]
NormEps = Literal["hf", "original"]

_PER_STAGE = (
    "depths",
    "sr_ratios",
    "hidden_sizes",
    "patch_sizes",
    "strides",
    "num_attention_heads",
    "mlp_ratios",
)
_MOST = 65_536  # beyond any network that fits a machine: a slip or an attack, not a size
_MOST_BLOCKS = 1_000
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")


@dataclasses.dataclass(frozen=True)
class GLPNConfig:
    """Hyper-parameters of GLPN (Kim et al., 2022, arXiv:2201.07436), named as in HF transformers.

    Attributes:
        num_channels: Channels of the input image.
        num_encoder_blocks: Number of encoder stages; the per-stage tuples have this length.
        depths: Transformer blocks per stage.
        sr_ratios: Spatial reduction of keys and values per stage.
        hidden_sizes: Channels per stage.
        patch_sizes: Odd kernel sizes of the overlapping patch embeddings.
        strides: Strides of the patch embeddings; 4 and then 2s, as the decoder doubles back.
        num_attention_heads: Heads per stage; each divides its hidden size.
        mlp_ratios: Expansion of the Mix-FFN per stage.
        hidden_act: Activation of the Mix-FFN (``gelu`` is the exact erf form).
        hidden_dropout_prob: Dropout after projections, training only.
        attention_probs_dropout_prob: Dropout on attention weights, training only.
        initializer_range: Standard deviation of freshly initialised weights.
        drop_path_rate: Stochastic depth of the last block (linear from 0), training only.
        layer_norm_eps: Carried through the file for HF's sake; HF's model never reads it.
        decoder_hidden_size: Channels of the decoder.
        max_depth: Depth in metres that the head's sigmoid saturates at.
        head_in_index: Which decoder stage feeds the head.
        norm_eps: ``hf`` runs every LayerNorm at 1e-5, as transformers does; ``original`` uses the
            authors' 1e-6 in block and stage norms.

    Raises:
        ConfigError: A value is missing, of the wrong type or contradicts another.
    """

    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: tuple[int, ...] = (2, 2, 2, 2)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    hidden_sizes: tuple[int, ...] = (32, 64, 160, 256)
    patch_sizes: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    num_attention_heads: tuple[int, ...] = (1, 2, 5, 8)
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    hidden_act: HiddenAct = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    drop_path_rate: float = 0.1
    layer_norm_eps: float = 1e-6
    decoder_hidden_size: int = 64
    max_depth: float = 10.0
    head_in_index: int = -1
    norm_eps: NormEps = "hf"

    def __post_init__(self) -> None:
        for name in _PER_STAGE:
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)):
                raise _bad(name, value, "a list with one number per stage")
            object.__setattr__(self, name, tuple(value))
        _positive_int("num_encoder_blocks", self.num_encoder_blocks)
        for name in _PER_STAGE:
            values = getattr(self, name)
            if len(values) != self.num_encoder_blocks:
                raise _bad(name, list(values), f"num_encoder_blocks = {self.num_encoder_blocks} entries")
            for value in values:
                if name == "mlp_ratios":
                    _positive_number(name, value)
                else:
                    _positive_int(name, value, _MOST_BLOCKS if name == "depths" else _MOST)
        for name in ("num_channels", "decoder_hidden_size"):
            _positive_int(name, getattr(self, name))
        for name in ("max_depth", "initializer_range", "layer_norm_eps"):
            _positive_number(name, getattr(self, name))
        for name in _PROBABILITIES:
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise _bad(name, value, "a number from 0 up to, not including, 1")
        if self.hidden_act not in get_args(HiddenAct):
            raise _bad("hidden_act", self.hidden_act, f"one of {', '.join(get_args(HiddenAct))}")
        if self.norm_eps not in get_args(NormEps):
            raise _bad("norm_eps", self.norm_eps, f"one of {', '.join(get_args(NormEps))}")
        for size, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if size % heads:
                raise _bad("hidden_sizes", size, f"a multiple of its {heads} attention heads")
        for hidden, ratio in zip(self.hidden_sizes, self.mlp_ratios, strict=True):
            if not 1 <= hidden * ratio <= 16 * _MOST:
                raise _bad("mlp_ratios", ratio, "at least one hidden channel, and not millions")
        if any(size % 2 == 0 for size in self.patch_sizes):
            raise _bad("patch_sizes", list(self.patch_sizes), "odd kernel sizes")
        doubling = (4,) + (2,) * (self.num_encoder_blocks - 1)
        if self.strides != doubling:
            raise _bad("strides", list(self.strides), f"{list(doubling)}, which the decoder doubles back")
        if self.decoder_hidden_size % 2:
            raise _bad("decoder_hidden_size", self.decoder_hidden_size, "an even number")
        n = self.num_encoder_blocks
        if not isinstance(self.head_in_index, int) or not -n <= self.head_in_index < n:
            raise _bad("head_in_index", self.head_in_index, f"an index from {-n} to {n - 1}")

    @property
    def size_multiple(self) -> int:
        """Image heights and widths that are multiples of this [px] run through every stage."""
        total = math.prod(self.strides)
        grids = [math.prod(self.strides[: i + 1]) * sr for i, sr in enumerate(self.sr_ratios)]
        return math.lcm(total, *grids)

    def replace(self, **changes: Any) -> GLPNConfig:
        """A copy with the given fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GLPNConfig:
        """Builds a config from HF's ``config.json`` content; keys that are not GLPN's are left out.

        Raises:
            ConfigError: ``model_type`` is another model's, or a value is unusable.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"the config is a {type(values).__name__}", expected="a JSON object")
        model_type = values.get("model_type", "glpn")
        if model_type != "glpn":
            raise ConfigError(
                f"the config's model_type is {model_type!r}",
                expected="'glpn'",
                fix="give a GLPN checkpoint such as vinvino02/glpn-nyu",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in names})

    def to_dict(self) -> dict[str, Any]:
        """HF's ``config.json`` content (transformers reads it back)."""
        values: dict[str, Any] = {"architectures": ["GLPNForDepthEstimation"], "model_type": "glpn"}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values[field.name] = list(value) if isinstance(value, tuple) else value
        if self.norm_eps == "hf":
            del values["norm_eps"]  # ours alone; the default is what HF computes
        if float(self.max_depth).is_integer():
            values["max_depth"] = int(self.max_depth)  # transformers 5 refuses a float here
        return values

    @classmethod
    def from_json_file(cls, path: str | Path) -> GLPNConfig:
        """Reads a ``config.json``.

        Raises:
            ConfigError: The file is missing, not JSON, or not a usable GLPN config.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"there is no file {path}", expected="a GLPN config.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path} is not readable JSON ({error})", expected="a GLPN config.json"
            ) from None
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.got}", expected=error.expected, fix=error.fix) from None

    def to_json_string(self) -> str:
        """The text of ``config.json``, keys sorted, with a final newline."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max  # false for NaN; math.isfinite(10**400) raises


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"config value {name} = {value!r}", expected=expected)


def _positive_int(name: str, value: object, most: int = _MOST) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad(name, value, "a whole number of at least 1")
    if value > most:
        raise _bad(name, value, f"at most {most}")


def _positive_number(name: str, value: object) -> None:
    if not _is_number(value) or value <= 0:  # type: ignore[operator]
        raise _bad(name, value, "a finite number above 0")
