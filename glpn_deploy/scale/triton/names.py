"""Names of the repository's models and tensors, and of what lies beside a model.py."""

from __future__ import annotations

from typing import Literal, get_args

ModelName = Literal["glpn", "glpn_raw", "glpn_python"]
"""The models that callers call."""

MODELS: tuple[ModelName, ...] = get_args(ModelName)
PREPROCESS, NET, POSTPROCESS = "glpn_preprocess", "glpn_net", "glpn_postprocess"
"""The steps of ``glpn``."""

IMAGE, DEPTH = "IMAGE", "DEPTH"
PIXELS, RAW_DEPTH, SIZE = "pixel_values", "predicted_depth", "size"
BUNDLE = "bundle"
