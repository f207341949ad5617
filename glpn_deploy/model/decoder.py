"""GLPN's decoder and head: selective feature fusion from the deepest map up, then metres."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glpn_deploy.model.config import GLPNConfig


class SelectiveFeatureFusion(nn.Module):
    """Mixes a local and a global map by attention (section 3.4 of the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU())

        self.convolutional_layer1 = layer(2 * channels, channels)
        self.convolutional_layer2 = layer(channels, channels // 2)
        self.convolutional_layer3 = nn.Conv2d(channels // 2, 2, 3, 1, 1)

    def forward(self, local: Tensor, global_: Tensor) -> Tensor:
        """Two ``(B, C, H, W)`` maps to one."""
        x = torch.cat((local, global_), dim=1)
        x = self.convolutional_layer3(self.convolutional_layer2(self.convolutional_layer1(x)))
        weights = torch.sigmoid(x)
        return local * weights[:, :1] + global_ * weights[:, 1:]


def _double(x: Tensor) -> Tensor:
    """Bilinear x2 of ``(B, C, H, W)``, align_corners False."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class DecoderStage(nn.Module):
    """1x1 convolution, fusion with the coarser map, bilinear x2."""

    def __init__(self, inputs: int, channels: int, *, fuse: bool) -> None:
        super().__init__()
        self.convolution = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)
        self.fusion = SelectiveFeatureFusion(channels) if fuse else None

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        """``(B, C_i, H, W)`` and ``(B, C, H, W)`` to ``(B, C, 2H, 2W)``."""
        x = self.convolution(x)
        if self.fusion is not None and coarser is not None:
            x = self.fusion(x, coarser)
        return _double(x)


class Decoder(nn.Module):
    """Fuses the encoder's maps, deepest first."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        sizes = config.hidden_sizes[::-1]
        self.stages = nn.ModuleList(
            DecoderStage(size, config.decoder_hidden_size, fuse=i > 0) for i, size in enumerate(sizes)
        )

    def forward(self, hidden_states: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's maps, shallow to deep, to one decoded map a stage, the last at full size."""
        decoded: list[Tensor] = []
        x: Tensor | None = None
        for hidden, stage in zip(hidden_states[::-1], self.stages, strict=True):
            x = stage(hidden, x)
            decoded.append(x)
        decoded[-1] = _double(decoded[-1])
        return decoded


class DepthHead(nn.Module):
    """Two 3x3 convolutions and a sigmoid scaled to ``max_depth``."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        channels = config.decoder_hidden_size
        self.config = config  # read at every call, as HF does: max_depth may be changed
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, 1, 3, 1, 1)
        )

    def forward(self, decoded: list[Tensor]) -> Tensor:
        """Decoded maps to depth ``(B, H, W)`` in metres."""
        return torch.sigmoid(self.head(decoded[self.config.head_in_index])).squeeze(1) * self.config.max_depth
