"""How far one run's depth is from another's: over all pixels, by depth range, and what is broken at sight."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from glpn_deploy.depth.metrics import DEPTH_RANGES, MIN_DEPTH
from glpn_deploy.errors import InputError

Array = npt.NDArray[Any]

Flag = Literal["nan", "infinite", "reference_not_finite", "constant", "collapsed"]
FLAGS: dict[Flag, str] = {
    "nan": "NaN",
    "infinite": "infinite depth",
    "reference_not_finite": "the reference itself is not finite",
    "constant": "constant map",
    "collapsed": "range collapsed",
}
"""What is wrong with a depth map whatever its errors are, in words."""

COLLAPSE = 0.1
"""A depth map whose spread is below this share of the reference's has collapsed."""
_SPREAD_PERCENTILES = (5, 95)
# 16-bit types step by up to 0.8 % of the depth: what varies less than a few steps may come out flat, rightly
_FLAT = 0.05


@dataclasses.dataclass(frozen=True)
class ErrorStats:
    """How far one runtime's depth is from another's, over all pixels of all images.

    Attributes:
        max_abs_m: Largest |a - b| [m].
        p99_abs_m: 99th percentile of |a - b| [m], linearly interpolated.
        mean_abs_m: Mean |a - b| [m].
        abs_rel: Mean |a - b| / b, with b no smaller than ``MIN_DEPTH``.
        delta1: Share of pixels with max(a/b, b/a) < 1.25, both no smaller than ``MIN_DEPTH``.
        non_finite: Pixels where a or b is NaN or infinite. Where there are any, the four errors above
            are infinite and these pixels fail ``delta1``, so that no tolerance is met by accident.
    """

    max_abs_m: float
    p99_abs_m: float
    mean_abs_m: float
    abs_rel: float
    delta1: float
    non_finite: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no infinity: an infinite error is written as ``None``."""
        values = dataclasses.asdict(self)
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def error_stats(a: Array, b: Array) -> ErrorStats:
    """Compares depth ``a`` with the reference ``b`` [m], both of one shape, (N, H, W) or any other.

    Raises:
        InputError: The shapes differ or the arrays are empty.
    """
    if a.shape != b.shape or not a.size:
        raise InputError(f"depth of shapes {a.shape} and {b.shape}", expected="one shape with pixels in it")
    finite = np.isfinite(a) & np.isfinite(b)
    bad = a.size - int(np.count_nonzero(finite))
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    floor_x, floor_y = np.maximum(x, MIN_DEPTH), np.maximum(y, MIN_DEPTH)
    near = np.maximum(floor_x / floor_y, floor_y / floor_x) < 1.25
    delta1 = float(np.count_nonzero(near)) / a.size
    if bad:
        return ErrorStats(math.inf, math.inf, math.inf, math.inf, delta1, bad)
    error = np.abs(x - y)
    return ErrorStats(
        max_abs_m=float(error.max()),
        p99_abs_m=float(np.percentile(error, 99)),
        mean_abs_m=float(error.mean()),
        abs_rel=float((error / floor_y).mean()),
        delta1=delta1,
        non_finite=0,
    )


@dataclasses.dataclass(frozen=True)
class RangeStats:
    """The errors of the pixels whose reference lies in one depth range.

    Attributes:
        name: The range [m], such as ``1-3``; the lower end is included, the upper one is not.
        pixels: Pixels of the reference in it.
    """

    name: str
    pixels: int
    stats: ErrorStats | None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {"pixels": self.pixels, **(self.stats.to_dict() if self.stats else {})}


def error_stats_by_range(a: Array, b: Array) -> tuple[RangeStats, ...]:
    """Compares depth ``a`` with the reference ``b`` [m] in each of `DEPTH_RANGES` of the reference.

    Pixels whose reference is NaN, infinite or beyond the last range are in none.

    Raises:
        InputError: The shapes differ or the arrays are empty.
    """
    if a.shape != b.shape or not a.size:
        raise InputError(f"depth of shapes {a.shape} and {b.shape}", expected="one shape with pixels in it")
    found = []
    for low, high in DEPTH_RANGES:
        here = (b >= low) & (b < high)
        pixels = int(np.count_nonzero(here))
        found.append(RangeStats(f"{low}-{high}", pixels, error_stats(a[here], b[here]) if pixels else None))
    return tuple(found)


def pool_ranges(parts: Iterable[Sequence[RangeStats]]) -> tuple[RangeStats, ...]:
    """One table of several comparisons'.

    Means and shares are those over all pixels, the maximum is the largest one. The 99th percentile is the
    largest of the parts', which that of all pixels does not exceed but for interpolation among few pixels:
    the pixels themselves are not kept.
    """
    pooled = []
    for same in zip(*parts, strict=True):
        pixels = sum(part.pixels for part in same)
        known = [(part.pixels / pixels, part.stats) for part in same if part.stats is not None]
        stats = None
        if known:
            stats = ErrorStats(
                max_abs_m=max(stats.max_abs_m for _, stats in known),
                p99_abs_m=max(stats.p99_abs_m for _, stats in known),
                mean_abs_m=sum(share * stats.mean_abs_m for share, stats in known),
                abs_rel=sum(share * stats.abs_rel for share, stats in known),
                delta1=sum(share * stats.delta1 for share, stats in known),
                non_finite=sum(stats.non_finite for _, stats in known),
            )
        pooled.append(RangeStats(same[0].name, pixels, stats))
    return tuple(pooled)


def depth_flags(a: Array, b: Array) -> tuple[Flag, ...]:
    """What is broken in the depth ``a`` at sight, against the reference ``b`` [m], both (N, H, W).

    The spread of a map is the distance of its 95th from its 5th percentile, over its finite pixels. Where
    the reference's is at least 5 % of its median depth, a map of no spread is ``constant`` and one of less
    than `COLLAPSE` of the reference's is ``collapsed``; a flatter reference leaves nothing to lose. Every
    image of the batch is looked at by itself, and one is enough.

    Raises:
        InputError: The shapes differ or are not (N, H, W).
    """
    if a.shape != b.shape or a.ndim != 3 or not a.size:
        raise InputError(f"depth of shapes {a.shape} and {b.shape}", expected="one shape (N, H, W)")
    flags: dict[Flag, bool] = {
        "nan": bool(np.isnan(a).any()),
        "infinite": bool(np.isinf(a).any()),
        "reference_not_finite": not bool(np.isfinite(b).all()),
    }
    for candidate, reference in zip(a, b, strict=True):
        x, y = candidate[np.isfinite(candidate)], reference[np.isfinite(reference)]
        if not x.size or not y.size:
            continue
        spread, whole = _spread(x), _spread(y)
        if whole < _FLAT * float(np.median(y)) or whole <= 0:
            continue
        flags["constant"] = flags.get("constant", False) or spread == 0
        flags["collapsed"] = flags.get("collapsed", False) or 0 < spread < COLLAPSE * whole
    return tuple(flag for flag in FLAGS if flags.get(flag))


def _spread(depth: Array) -> float:
    low, high = np.percentile(depth, _SPREAD_PERCENTILES)
    return float(high - low)
