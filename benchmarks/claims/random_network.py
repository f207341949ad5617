"""Networks with random weights: glpn-nyu's architecture without glpn-nyu's 250 MB."""

from __future__ import annotations

import torch

from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.training.start import preset

NYU = preset("mit-b4")
"""glpn-nyu's architecture."""


def random_model(config: GLPNConfig, seed: int) -> GLPNForDepthEstimation:
    """A seeded network whose norms and BatchNorm statistics are random as well."""
    torch.manual_seed(seed)
    model = GLPNForDepthEstimation(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.1)
            elif tensor.ndim > 1:
                tensor.mul_(2)
    return model.eval()
