"""Depth of clips and cameras: frames with their timestamps in, depth videos out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["Frame", "FrameOptions", "FrameSource", "ScaleSteadier", "frames"]

if TYPE_CHECKING:
    from glpn_deploy.video.frame import Frame, FrameSource
    from glpn_deploy.video.options import FrameOptions
    from glpn_deploy.video.sources.opening import frames
    from glpn_deploy.video.steadiness import ScaleSteadier
else:  # as in glpn_deploy itself
    _HOMES = {
        "Frame": "frame",
        "FrameOptions": "options",
        "FrameSource": "frame",
        "ScaleSteadier": "steadiness",
        "frames": "sources.opening",
    }

    def __getattr__(name):
        """Names are imported on use: reading the options for ``--help`` loads no numpy."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
