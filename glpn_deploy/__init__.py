"""GLPN monocular depth: from a PyTorch checkpoint to any machine, with proof that the depth stayed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glpn_deploy.depth.depth_map import DepthMap as DepthMap
    from glpn_deploy.errors import GlpnError as GlpnError
    from glpn_deploy.estimator import DepthEstimator as DepthEstimator
    from glpn_deploy.images.processing import GLPNFeatureExtractor as GLPNFeatureExtractor
    from glpn_deploy.images.processing import GLPNImageProcessor as GLPNImageProcessor
    from glpn_deploy.model.config import GLPNConfig as GLPNConfig
    from glpn_deploy.model.modeling import GLPNForDepthEstimation as GLPNForDepthEstimation
    from glpn_deploy.model.modeling import GLPNModel as GLPNModel

__version__ = "0.1.0"

_HOMES = {
    "DepthEstimator": "estimator",
    "DepthMap": "depth.depth_map",
    "GLPNConfig": "model.config",
    "GLPNFeatureExtractor": "images.processing",
    "GLPNForDepthEstimation": "model.modeling",
    "GLPNImageProcessor": "images.processing",
    "GLPNModel": "model.modeling",
    "GlpnError": "errors",
}
__all__ = sorted([*_HOMES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Imports a public name's module on first use, so that ``import glpn_deploy`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glpn_deploy' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"glpn_deploy.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
