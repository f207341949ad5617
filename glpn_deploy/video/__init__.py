"""Depth of clips and cameras: frames with their timestamps in, depth videos out."""

from __future__ import annotations

from glpn_deploy.video.frame import Frame as Frame
from glpn_deploy.video.frame import FrameOptions as FrameOptions
from glpn_deploy.video.frame import FrameSource as FrameSource
from glpn_deploy.video.sources.opening import frames as frames
from glpn_deploy.video.steadiness import ScaleSteadier as ScaleSteadier
