"""The GLPN network in PyTorch: HF's tensor names and results, written so that its ONNX graph stays small.

Architecture after Kim et al., "Global-Local Path Networks for Monocular Depth Estimation with
Vertical CutDepth" (arXiv:2201.07436); the parts are in `encoder` and `decoder`, files in `pretrained`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glpn_deploy.errors import InputError
from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.decoder import Decoder, DepthHead
from glpn_deploy.model.encoder import Encoder
from glpn_deploy.model.outputs import DepthEstimatorOutput, EncoderOutput
from glpn_deploy.model.pretrained import PreTrained


def silog_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant log loss (Eigen et al., arXiv:1406.2283): sqrt(mean d² - 0.5 mean(d)²).

    d = ln(target) - ln(predicted) over the pixels with target > 0.

    Args:
        predicted: ``(B, H, W)``, metres, above 0.
        target: ``(B, H, W)``, metres; 0 or less marks a pixel without ground truth.

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
    return torch.sqrt((d.square().mean() - 0.5 * d.mean().square()).clamp_min(1e-12))


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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> EncoderOutput | tuple[Any, ...]:
        """Encodes a batch.

        Args:
            pixel_values: ``(B, 3, H, W)`` float, 0 to 1; of any size that leaves every stage a grid.
            output_attentions: Also give the attention weights of every block. None, here and below, is
                what the configuration says.
            output_hidden_states: Also give every stage's map.
            return_dict: An `EncoderOutput`, or a tuple of what is not None.
            memory_format: How the maps lie in memory.

        Raises:
            InputError: The shape is not one the network can run.
        """
        self._check_shape(pixel_values)
        output_attentions = _or(output_attentions, self.config.output_attentions)
        states, attentions = self.encoder(pixel_values, output_attentions, memory_format)
        output = EncoderOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states)
            if _or(output_hidden_states, self.config.output_hidden_states)
            else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output if _or(return_dict, self.config.return_dict) else output.to_tuple()


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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Predicts depth.

        Args:
            pixel_values: ``(B, 3, H, W)`` float, 0 to 1; sides multiples of ``config.size_multiple``.
            labels: ``(B, H, W)`` metres, 0 where unknown; adds the SiLog loss.
            output_attentions: Also give the attention weights of every block. None, here and below, is
                what the configuration says.
            output_hidden_states: Also give every encoder stage's map.
            return_dict: A `DepthEstimatorOutput`, or a tuple of what is not None.

        Raises:
            InputError: A shape is not one the network can run.
        """
        self._check_size(pixel_values)
        keeps = _or(output_hidden_states, self.config.output_hidden_states)
        encoded = self.glpn(
            pixel_values,
            output_attentions,
            output_hidden_states=True,
            return_dict=True,
            memory_format=torch.contiguous_format if keeps else torch.channels_last,
        )
        depth = self.head(self.decoder(encoded.hidden_states))
        output = DepthEstimatorOutput(
            loss=None if labels is None else silog_loss(depth, labels),
            predicted_depth=depth,
            hidden_states=encoded.hidden_states if keeps else None,
            attentions=encoded.attentions,
        )
        return output if _or(return_dict, self.config.return_dict) else output.to_tuple()


def _or(asked: bool | None, configured: bool | None) -> bool:
    return bool(configured if asked is None else asked)
