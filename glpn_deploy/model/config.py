"""GLPNConfig: the hyper-parameters of a GLPN network, read from and written to HF's config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from glpn_deploy.model.settings.base import CONFIG_NAME as CONFIG_NAME
from glpn_deploy.model.settings.base import ConfigBase
from glpn_deploy.model.settings.checks import NormEps as NormEps
from glpn_deploy.model.settings.checks import check, check_type


@dataclasses.dataclass(init=False, eq=False, repr=False)
class GLPNConfig(ConfigBase):
    """Hyper-parameters of GLPN (Kim et al., 2022, arXiv:2201.07436), named as in HF transformers.

    Attributes can be set, keys that GLPN does not know are kept, lists stay lists. A value's type is checked
    when it is set; ranges, and what contradicts each other, when a model or an export is made (`validate`).

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
        hidden_act: Activation of the Mix-FFN by transformers' name (``gelu`` is the exact erf form).
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
    """

    model_type: ClassVar[str] = "glpn"

    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: Sequence[int] = (2, 2, 2, 2)
    sr_ratios: Sequence[int] = (8, 4, 2, 1)
    hidden_sizes: Sequence[int] = (32, 64, 160, 256)
    patch_sizes: Sequence[int] = (7, 3, 3, 3)
    strides: Sequence[int] = (4, 2, 2, 2)
    num_attention_heads: Sequence[int] = (1, 2, 5, 8)
    mlp_ratios: Sequence[float] = (4, 4, 4, 4)
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    drop_path_rate: float = 0.1
    layer_norm_eps: float = 1e-6
    decoder_hidden_size: int = 64
    max_depth: float = 10
    head_in_index: int = -1
    norm_eps: str = "hf"

    def __setattr__(self, name: str, value: Any) -> None:
        check_type(name, value)
        super().__setattr__(name, value)

    def validate(self) -> None:
        """Checks the values as a whole, as a model does when it is made, and an export.

        Raises:
            ConfigError: A value is out of range or contradicts another.
        """
        check(self)

    def to_dict(self) -> dict[str, Any]:
        """Every value, as HF's ``to_dict``; what `__init__` takes back, and transformers' too.

        transformers 5 refuses a ``max_depth`` that is not whole, and 10.0 as well. A whole one is written as
        an int; any other under the name ``max_depth_m``, to which HF's own ``attribute_map`` points: read by
        transformers, 4 or 5, ``config.max_depth`` is that number, and the depth is the same.
        """
        values = super().to_dict()
        if self.norm_eps == "hf":
            del values["norm_eps"]  # ours alone; the default is what HF computes
        if isinstance(self.max_depth, float) and self.max_depth.is_integer():
            values["max_depth"] = int(self.max_depth)
        elif isinstance(self.max_depth, float) and math.isfinite(self.max_depth):
            values["max_depth_m"], values["max_depth"] = self.max_depth, math.ceil(self.max_depth)
            values["attribute_map"] = {"max_depth": "max_depth_m"}
        return values

    def network(self) -> dict[str, Any]:
        """The part of `to_dict` that the network is made from: no flags, labels or origin."""
        common = {field.name for field in dataclasses.fields(ConfigBase)}
        own = {field.name for field in dataclasses.fields(self)} - common
        own |= {"attribute_map", "max_depth_m", "model_type"}
        return {name: value for name, value in self.to_dict().items() if name in own}

    @property
    def size_multiple(self) -> int:
        """Image heights and widths that are multiples of this [px] run through every stage."""
        total = math.prod(self.strides)
        grids = [math.prod(self.strides[: i + 1]) * sr for i, sr in enumerate(self.sr_ratios)]
        return math.lcm(total, *grids)
