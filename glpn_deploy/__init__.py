"""GLPN monocular depth: from a PyTorch checkpoint to any machine, with proof that the depth stayed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from glpn_deploy.errors import (
    BackendError,
    BudgetError,
    BundleError,
    CheckpointError,
    ConfigError,
    ConfigFileError,
    DatasetError,
    EngineError,
    ExportError,
    GlpnError,
    ImageError,
    InputError,
    MissingDependencyError,
    ParityError,
    UnavailableError,
    VideoError,
    WriteError,
)

__version__ = "0.2.0.dev0"
__all__ = [
    "BackendError",
    "BudgetError",
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "ConfigFileError",
    "DatasetError",
    "DepthEstimator",
    "DepthMap",
    "EngineError",
    "ExportError",
    "GLPNConfig",
    "GLPNFeatureExtractor",
    "GLPNForDepthEstimation",
    "GLPNImageProcessor",
    "GLPNModel",
    "GlpnError",
    "ImageError",
    "ImageSource",
    "InputError",
    "Intrinsics",
    "MissingDependencyError",
    "ParityError",
    "UnavailableError",
    "VideoError",
    "WriteError",
    "__version__",
]

if TYPE_CHECKING:
    from glpn_deploy.depth.depth_map import DepthMap
    from glpn_deploy.depth.point_cloud import Intrinsics
    from glpn_deploy.estimator import DepthEstimator
    from glpn_deploy.images.loading import ImageSource
    from glpn_deploy.images.processing import GLPNFeatureExtractor, GLPNImageProcessor
    from glpn_deploy.model.config import GLPNConfig
    from glpn_deploy.model.modeling import GLPNForDepthEstimation, GLPNModel
else:  # type checkers shall not see a __getattr__, which would hide misspelled names from them
    _HOMES = {
        "DepthEstimator": "estimator",
        "DepthMap": "depth.depth_map",
        "GLPNConfig": "model.config",
        "GLPNFeatureExtractor": "images.processing",
        "GLPNForDepthEstimation": "model.modeling",
        "GLPNImageProcessor": "images.processing",
        "GLPNModel": "model.modeling",
        "ImageSource": "images.loading",
        "Intrinsics": "depth.point_cloud",
    }

    def __getattr__(name):
        """Imports a public name's module on first use, so that ``import glpn_deploy`` stays light."""
        if name not in _HOMES:
            raise AttributeError(f"module 'glpn_deploy' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"glpn_deploy.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
