"""PyAV, or the sentence that it is missing: whoever decodes or encodes imports it from here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.optional import needs

with needs("reading and writing video", "video"):
    import av as av


def rgb_of(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) uint8 RGB, as stored."""
    image: NDArray[Any] = frame.to_ndarray(format="rgb24")
    return image
