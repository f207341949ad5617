"""EvalOptions: how a network is judged. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from glpn_deploy.options import Option, check_options


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """How a network is judged on a data set."""

    max_depth: Annotated[
        float | None, Option("Evaluate depth below this [m] [default: the data set's].", above=0)
    ] = None
    crop: Annotated[
        Literal["nyu", "eigen", "garg", "none"] | None,
        Option("Evaluate within this crop [default: the data set's]."),
    ] = None
    flip: Annotated[bool, Option("Average with the prediction of the mirrored image, mirrored back.")] = False
    median_scaling: Annotated[
        bool, Option("Scale every prediction to the ground truth's median: evaluates shape, not scale.")
    ] = False
    batch_size: Annotated[
        int, Option("Images predicted at a time.", names=("--batch",), former=("--batch-size",), least=1)
    ] = 4
    skip_bad: Annotated[
        bool, Option("Leave out samples that cannot be read, and name them; exit status 1 then.")
    ] = False

    def __post_init__(self) -> None:
        check_options(self)
