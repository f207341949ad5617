"""How far a lower precision may move the depth, and what is said of a graph that was held to it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from glpn_deploy.bundle.manifest import RE_EXPORT, Artefact
from glpn_deploy.depth.error_stats import ErrorStats
from glpn_deploy.errors import BundleError, InputError
from glpn_deploy.precisions import LOWER_PRECISIONS, PRECISION_INFO


@dataclasses.dataclass(frozen=True)
class Budget:
    """Largest errors against the FP32 graph's depth; every one that is given must be kept.

    Attributes:
        max_abs_rel: Mean |a - b| / b over all pixels, or None for any.
        max_abs_m: Largest |a - b| [m], or None for any.

    Raises:
        InputError: Neither is given, or one is not a finite number above 0.
    """

    max_abs_rel: float | None = None
    max_abs_m: float | None = None

    def __post_init__(self) -> None:
        if self.max_abs_rel is None and self.max_abs_m is None:
            raise InputError("the budget has no limit", expected="max_abs_rel, max_abs_m or both")
        for name, limit in dataclasses.asdict(self).items():
            if limit is not None and not 0 < limit < math.inf:
                raise InputError(f"{name} is {limit}", expected="a finite number above 0")

    @classmethod
    def of(cls, precision: str, max_abs_rel: float | None = None, max_abs_m: float | None = None) -> Budget:
        """The budget of a precision.

        Args:
            precision: A lower one.
            max_abs_rel: Takes the place of the precision's default.
            max_abs_m: Asked for beside it [m].
        """
        if precision not in LOWER_PRECISIONS:
            raise InputError(
                f"the precision {precision!r} has no budget", expected=f"one of {', '.join(LOWER_PRECISIONS)}"
            )
        return cls(PRECISION_INFO[precision].max_abs_rel if max_abs_rel is None else max_abs_rel, max_abs_m)

    def allows(self, errors: ErrorStats) -> bool:
        """Whether every pixel is finite and no limit is exceeded."""
        if errors.non_finite:
            return False
        limits = ((errors.abs_rel, self.max_abs_rel), (errors.max_abs_m, self.max_abs_m))
        return all(limit is None or error <= limit for error, limit in limits)

    def __str__(self) -> str:
        if self.max_abs_rel is None:
            return f"at most {self.max_abs_m:.3g} m"
        told = f"AbsRel at most {self.max_abs_rel:g}"
        return told if self.max_abs_m is None else f"{told}, no pixel more than {self.max_abs_m:g} m off"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return dataclasses.asdict(self)


def artefact_budget(artefact: Artefact) -> Budget:
    """The budget an artefact was exported with, or its precision's default."""
    given = artefact.budget or {}
    try:
        limits = {
            name: None if given.get(name) is None else float(given[name])
            for name in ("max_abs_rel", "max_abs_m")
        }
        if any(limit is not None for limit in limits.values()):
            return Budget(**limits)
        return Budget.of(artefact.precision)
    except (InputError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BundleError(f"the manifest's entry of {artefact.file}: {error}", fix=RE_EXPORT) from None
