"""Accuracy of the network in training, over its validation samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from glpn_deploy import progress
from glpn_deploy.datasets.base import DepthDataset
from glpn_deploy.depth.metrics import DepthMetrics
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.model.modeling import GLPNForDepthEstimation


@torch.inference_mode()
def validate(
    model: GLPNForDepthEstimation, data: DepthDataset, stop: Callable[[], bool] = lambda: False
) -> dict[str, float] | None:
    """Metrics of a network, each image entering at its own size as in use.

    Args:
        model: The network, on its device; it is left in the mode it came in.

    Returns:
        The averages, see `glpn_deploy.depth.metrics.depth_metrics`; None where ``stop`` said so.
    """
    processor, metrics = GLPNImageProcessor(), DepthMetrics(data.max_depth, crop=data.crop)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with progress.step("Validating", len(data)) as step:
            for index in range(len(data)):
                if stop():
                    return None
                sample = data[index]
                pixels = torch.from_numpy(processor(sample.image, return_tensors="np")["pixel_values"]).to(
                    device
                )
                depth = model(pixels).predicted_depth[None]
                if depth.shape[2:] != sample.depth.shape:  # bicubic, as the processor's post-processing
                    depth = F.interpolate(depth, sample.depth.shape, mode="bicubic", align_corners=False)
                metrics.update(depth[0, 0].float().cpu().numpy(), sample.depth)
                step.advance(sample.name)
            values: dict[str, float] = metrics.compute()["metrics"]
            step.finish(
                f"δ1 {values['delta1']:.3f}  AbsRel {values['abs_rel']:.3f}  RMSE {values['rmse']:.3f} m"
            )
            return values
    finally:
        model.train(was_training)
