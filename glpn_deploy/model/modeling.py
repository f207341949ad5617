"""The GLPN network in PyTorch: HF's tensor names and results, written so that its ONNX graph stays small.

Architecture after Kim et al., "Global-Local Path Networks for Monocular Depth Estimation with
Vertical CutDepth" (arXiv:2201.07436); the parts are in `encoder` and `decoder`, files in `pretrained`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.errors import InputError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.decoder import Decoder, DepthHead
from glpn_deploy.model.encoder import Encoder
from glpn_deploy.model.pretrained import PreTrained


class _Output:
    """Field access, tuple-style indexing over what is not None, and ``to_tuple``, as HF's outputs."""

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        values = (getattr(self, f.name) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return tuple(value for value in values if value is not None)

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())


@dataclasses.dataclass
class EncoderOutput(_Output):
    """What the encoder gives.

    Attributes:
        last_hidden_state: ``(B, C, H/32, W/32)``.
        hidden_states: One ``(B, C_i, H_i, W_i)`` map per stage, if asked for.
        attentions: One ``(B, heads, H_i * W_i, keys)`` map per block, if asked for.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class DepthEstimatorOutput(_Output):
    """What the depth network gives.

    Attributes:
        loss: SiLog loss, where labels were given.
        predicted_depth: ``(B, H, W)``, metres.
        hidden_states: As in `EncoderOutput`.
        attentions: As in `EncoderOutput`.
    """

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def silog_loss(predicted: Tensor, target: Tensor, weight: float = 0.5) -> Tensor:
    """Scale-invariant log loss (Eigen et al., arXiv:1406.2283): sqrt(mean d² - weight * mean(d)²).

    d = ln(target) - ln(predicted) over the pixels with target > 0.

    Args:
        predicted: ``(B, H, W)``, metres, above 0.
        target: ``(B, H, W)``, metres; 0 or less marks a pixel without ground truth.
        weight: 0.5 in the paper and in HF.

    Returns:
        A scalar with a finite gradient; 0 where no pixel is valid (HF gives NaN).
    """
    valid = target > 0
    if predicted.shape != target.shape:
        raise InputError(
            f"labels of shape {tuple(target.shape)}", expected=f"the prediction's {tuple(predicted.shape)}"
        )
    if not bool(valid.any()):
        return predicted.sum() * 0.0
    d = torch.log(target[valid]) - torch.log(predicted[valid])
    # The clamp keeps sqrt's gradient finite at a perfect fit.
    return torch.sqrt((d.square().mean() - weight * d.mean().square()).clamp_min(1e-12))


class GLPNModel(PreTrained):
    """The encoder alone."""

    architecture = "GLPNModel"
    encoder_only = True

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self._initialise()

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> EncoderOutput | tuple[Any, ...]:
        """Encodes a batch.

        Args:
            pixel_values: ``(B, 3, H, W)`` float, 0 to 1; sides multiples of ``config.size_multiple``.
            output_attentions: Also give the attention weights of every block.
            output_hidden_states: Also give every stage's map.
            return_dict: An `EncoderOutput`, or a tuple of what is not None.

        Raises:
            InputError: The shape is not one the network can run.
        """
        self._check_size(pixel_values)
        states, attentions = self.encoder(pixel_values, output_attentions)
        output = EncoderOutput(
            states[-1],
            tuple(states) if output_hidden_states else None,
            tuple(attentions) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()


class GLPNForDepthEstimation(PreTrained):
    """Encoder, decoder and head: image in, metres out."""

    architecture = "GLPNForDepthEstimation"

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__(config)
        self.glpn = GLPNModel(config)
        self.decoder = Decoder(config)
        self.head = DepthHead(config)
        self._initialise()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Predicts depth.

        Args:
            pixel_values: ``(B, 3, H, W)`` float, 0 to 1; sides multiples of ``config.size_multiple``.
            labels: ``(B, H, W)`` metres, 0 where unknown; adds the SiLog loss.
            output_attentions: Also give the attention weights of every block.
            output_hidden_states: Also give every encoder stage's map.
            return_dict: A `DepthEstimatorOutput`, or a tuple of what is not None.

        Raises:
            InputError: A shape is not one the network can run.
        """
        self._check_size(pixel_values)
        states, attentions = self.glpn.encoder(pixel_values, output_attentions)
        depth = self.head(self.decoder(states))
        output = DepthEstimatorOutput(
            None if labels is None else silog_loss(depth, labels),
            depth,
            tuple(states) if output_hidden_states else None,
            tuple(attentions) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()
