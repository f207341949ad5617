"""How much per-image depth flickers from frame to frame, and taking the jumps of its scale out.

A network that sees one image at a time gives every frame a scale of its own. Between two frames

    s_t = median over pixels of log(d_t / d_{t-1})

is the jump of the scale; what a pixel changes beyond it, ``|log(d_t / d_{t-1}) - s_t|``, is its own flicker.
Motion of the camera adds to both: without ground truth they are upper bounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 20_000  # pixels compared, on a regular grid: a frame's median costs 1 ms then
TIME_CONSTANT_S = 0.2
"""In which a change of the scale is followed by 63 % [s]: more lags behind a camera that walks at 0.5 m/s."""
CUT = 0.4
"""Where the median pixel changes by more than this beyond the scale (logarithm), the scene is another one."""


def log_ratio(depth: NDArray[np.float32], before: NDArray[np.float32]) -> tuple[float, float]:
    """The jump of the scale between two frames, and the median pixel's change beyond it.

    Args:
        depth: (H, W) [m].
        before: The frame before, of the same shape [m].

    Returns:
        s and the median of ``|log(depth / before) - s|``, as natural logarithms: 0.01 is about 1 %. NaN
        where no pixel is valid in both, or the shapes differ.
    """
    if depth.shape != before.shape:
        return math.nan, math.nan
    stride = math.ceil(math.sqrt(depth.size / _SAMPLES))
    new, old = (values[::stride, ::stride] for values in (depth, before))
    valid = np.isfinite(new) & np.isfinite(old) & (new > 0) & (old > 0)
    if not valid.any():
        return math.nan, math.nan
    ratio = np.log(new[valid] / old[valid])
    jump = float(np.median(ratio))
    return jump, float(np.median(np.abs(ratio - jump)))


class FlickerMeter:
    """Measures how much depth flickers, frame by frame."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._jumps: list[float] = []
        self._own: list[float] = []

    def update(self, depth: NDArray[np.float32]) -> None:
        """Compares a frame, (H, W) [m], with the one before; a scene cut does not count."""
        if self._before is not None:
            jump, own = log_ratio(depth, self._before)
            if own <= CUT:
                self._jumps.append(abs(jump))
                self._own.append(own)
        self._before = depth

    def compute(self) -> dict[str, Any]:
        """``pairs`` of frames compared, and means over them: ``scale_jump`` is |s|, ``pixel_flicker`` the
        median pixel's change beyond it; None without a pair.
        """
        if not self._jumps:
            return {"pairs": 0, "scale_jump": None, "pixel_flicker": None}
        jump, own = (float(np.mean(values)) for values in (self._jumps, self._own))
        return {"pairs": len(self._jumps), "scale_jump": jump, "pixel_flicker": own}


class ScaleSteadier:
    """Takes jumps of the scale out of depth: an exponential moving average of its logarithm.

    Every frame is multiplied by one number, so that shapes neither lag nor smear. With S the sum of the
    jumps s_t and M its moving average, that number is exp(M - S); it follows c_t = (1 - a)(c_{t-1} - s_t),
    a = 1 - exp(-dt / time constant). A scene cut starts anew at 1.

    Args:
        time_constant: In which a change of the scale is followed by 63 % [s].
    """

    def __init__(self, time_constant: float = TIME_CONSTANT_S) -> None:
        self._constant = time_constant
        self._before: NDArray[np.float32] | None = None
        self._time = 0.0
        self._log = 0.0

    def __call__(self, depth: NDArray[np.float32], time: float) -> NDArray[np.float32]:
        """The frame's depth, (H, W) [m], with a steadier scale; ``time`` is its timestamp [s]."""
        if self._before is not None:
            jump, own = log_ratio(depth, self._before)
            keep = math.exp(-max(0.0, time - self._time) / self._constant)
            self._log = keep * (self._log - jump) if own <= CUT else 0.0
        self._before, self._time = depth, time
        steadied: NDArray[np.float32] = depth * np.float32(self.scale)
        return steadied

    @property
    def scale(self) -> float:
        """What the last frame was multiplied by."""
        return math.exp(self._log)
