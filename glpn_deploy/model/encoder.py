"""GLPN's encoder: the Mix Transformer of SegFormer (arXiv:2105.15203), with HF's tensor names.

Feature maps are channels-last ``(B, H, W, C)`` wherever LayerNorm, attention or a linear layer works on
them; the convolutions get them as views ``(B, C, H, W)`` of the same memory (torch's channels_last).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glpn_deploy.model.activations import activation
from glpn_deploy.model.config import GLPNConfig


def _layer_norm(size: int, config: GLPNConfig, *, inner: bool = False) -> nn.LayerNorm:
    """``inner`` norms (patch embedding, reduction) run at 1e-5 in the authors' code as well."""
    return nn.LayerNorm(size, eps=1e-6 if config.norm_eps == "original" and not inner else 1e-5)


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al., arXiv:1603.09382); the identity in eval mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drops whole samples of ``x (B, ...)`` and rescales the rest."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1 - self.rate
        mask = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x.div(keep) * torch.floor(mask + keep)


class PatchEmbedding(nn.Module):
    """Overlapping patches: strided convolution, then LayerNorm over channels."""

    def __init__(self, config: GLPNConfig, stage: int) -> None:
        super().__init__()
        channels = config.num_channels if stage == 0 else config.hidden_sizes[stage - 1]
        size, patch = config.hidden_sizes[stage], config.patch_sizes[stage]
        self.proj = nn.Conv2d(channels, size, patch, config.strides[stage], patch // 2)
        self.layer_norm = _layer_norm(size, config, inner=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, H', W', C')``."""
        y: Tensor = self.layer_norm(self.proj(x).permute(0, 2, 3, 1))
        return y


class EfficientSelfAttention(nn.Module):
    """Self-attention whose keys and values are reduced ``sr_ratio`` times along each side."""

    def __init__(self, config: GLPNConfig, stage: int) -> None:
        super().__init__()
        size = config.hidden_sizes[stage]
        self.heads = config.num_attention_heads[stage]
        self.head_size = size // self.heads
        # Scaling Q before the product lets engines recognise the attention pattern, and an export
        # folds the factor into the query's weights (1.0 is left then).
        self.scale = self.head_size**-0.5
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.sr_ratio = config.sr_ratios[stage]
        if self.sr_ratio > 1:
            self.sr = nn.Conv2d(size, size, self.sr_ratio, self.sr_ratio)
            self.layer_norm = _layer_norm(size, config, inner=True)

    def _split_heads(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, heads, H * W, C / heads)``."""
        return x.reshape(x.shape[0], -1, self.heads, self.head_size).transpose(1, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to the context of the same shape and the attention weights."""
        q = self.query(x)
        if self.scale != 1.0:
            q = q * self.scale
        source = x
        if self.sr_ratio > 1:
            source = self.layer_norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        k, v = self._split_heads(self.key(source)), self._split_heads(self.value(source))
        weights = torch.softmax(self._split_heads(q) @ k.transpose(-1, -2), dim=-1)
        weights = self.dropout(weights)
        context = (weights @ v).transpose(1, 2).reshape(x.shape)
        return context, weights


class SelfOutput(nn.Module):
    """Projection after attention."""

    def __init__(self, config: GLPNConfig, stage: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_sizes[stage], config.hidden_sizes[stage])
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to the same shape."""
        y: Tensor = self.dropout(self.dense(x))
        return y


class Attention(nn.Module):
    """Attention and its output projection (two modules, as HF's tensor names have it)."""

    def __init__(self, config: GLPNConfig, stage: int) -> None:
        super().__init__()
        self.self = EfficientSelfAttention(config, stage)
        self.output = SelfOutput(config, stage)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to the same shape, and the attention weights."""
        context, weights = self.self(x)
        return self.output(context), weights


class DepthWiseConv(nn.Module):
    """The 3x3 depthwise convolution that stands in for position embeddings."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        y: Tensor = self.dwconv(x)
        return y


class MixFFN(nn.Module):
    """Linear, depthwise 3x3, activation, linear."""

    def __init__(self, config: GLPNConfig, stage: int) -> None:
        super().__init__()
        size = config.hidden_sizes[stage]
        hidden = int(size * config.mlp_ratios[stage])
        self.dense1 = nn.Linear(size, hidden)
        self.dwconv = DepthWiseConv(hidden)
        self.intermediate_act_fn = activation(config.hidden_act)
        self.dense2 = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to the same shape."""
        y: Tensor = self.dwconv(self.dense1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.dense2(self.dropout(self.intermediate_act_fn(y)))
        y = self.dropout(y)
        return y


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: GLPNConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        self.layer_norm_1 = _layer_norm(config.hidden_sizes[stage], config)
        self.attention = Attention(config, stage)
        self.drop_path = DropPath(drop_path)
        self.layer_norm_2 = _layer_norm(config.hidden_sizes[stage], config)
        self.mlp = MixFFN(config, stage)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to the same shape, and the attention weights."""
        attention, weights = self.attention(self.layer_norm_1(x))
        x = x + self.drop_path(attention)
        x = x + self.drop_path(self.mlp(self.layer_norm_2(x)))
        return x, weights


class Encoder(nn.Module):
    """Mix Transformer: four stages of patch embedding, blocks and LayerNorm."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        stages = range(config.num_encoder_blocks)
        rates = iter(torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist())
        self.patch_embeddings = nn.ModuleList(PatchEmbedding(config, i) for i in stages)
        self.block = nn.ModuleList(
            nn.ModuleList(Block(config, i, next(rates)) for _ in range(config.depths[i])) for i in stages
        )
        self.layer_norm = nn.ModuleList(_layer_norm(config.hidden_sizes[i], config) for i in stages)

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """``(B, 3, H, W)`` to one ``(B, C, H', W')`` map a stage and, if asked, one attention map a block.

        The maps come out in ``channels_last`` by themselves, in which the decoder's convolutions run 1.3 to
        1.5 times faster on a CPU than in HF's contiguous format.
        """
        states: list[Tensor] = []
        attentions: list[Tensor] = []
        x = pixel_values
        for embed, blocks, norm in zip(self.patch_embeddings, self.block, self.layer_norm, strict=True):
            x = embed(x)
            for block in blocks:  # type: ignore[attr-defined]
                x, weights = block(x)
                if output_attentions:  # kept otherwise, glpn-nyu's would take 0.4 GB at 480x640
                    attentions.append(weights)
            x = norm(x).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
            states.append(x)
        return states, attentions
