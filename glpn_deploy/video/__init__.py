"""Depth of clips and cameras: frames with their timestamps in, depth videos out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glpn_deploy.video.frame import Frame as Frame
    from glpn_deploy.video.frame import FrameSource as FrameSource
    from glpn_deploy.video.options import FrameOptions as FrameOptions
    from glpn_deploy.video.sources.opening import frames as frames
    from glpn_deploy.video.steadiness import ScaleSteadier as ScaleSteadier

_HOMES = {
    "Frame": "frame",
    "FrameSource": "frame",
    "FrameOptions": "options",
    "frames": "sources.opening",
    "ScaleSteadier": "steadiness",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Names are imported on use: reading the options for ``--help`` loads no numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
