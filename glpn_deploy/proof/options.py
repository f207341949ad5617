"""VerifyOptions: what is verified, and how. Light: commands read it for ``--help``."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated

from glpn_deploy.errors import InputError
from glpn_deploy.options import ADVANCED, WORDS, Offline, Only, Option, check_options
from glpn_deploy.precisions import PRECISIONS, Precision
from glpn_deploy.runtimes.options import RuntimeOptions

_advanced = partial(Option, panel=ADVANCED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What is verified, and how.

    Attributes:
        reference: Its scale is taken from the bundle, so that a bundle exported with another ``max_depth`` is
            compared fairly.

    Raises:
        InputError: A reference without the sweep, or a precision that is none.
    """

    reference: Annotated[
        str | None,
        Option("Checkpoint folder, hub id or .ckpt: also compare with PyTorch over the whole shape sweep."),
    ] = None
    tolerance: Annotated[
        float | None,
        _advanced(
            "Largest difference allowed to the fp32 artefact, as a share of max_depth [default: 1e-5]. The "
            "others are held to their budgets.",
            above=0,
        ),
    ] = None
    precisions: Annotated[
        tuple[Precision, ...] | None,
        Option(
            "Check these only, separated by commas [default: all].",
            names=("--precision",),
            reader=WORDS,
        ),
    ] = None
    sweep: Annotated[
        bool, _advanced("Hold every other artefact against the fp32 one over the whole shape sweep.")
    ] = True
    polygraphy: Annotated[bool, _advanced("Let Polygraphy run and judge the same, independently.")] = False
    runtime: Annotated[RuntimeOptions, Only(("device", "threads", "trust_engines", "allow_fallback"))] = (
        RuntimeOptions()
    )
    offline: Offline = False

    def __post_init__(self) -> None:
        check_options(self)
        if self.reference is not None and not self.sweep:
            raise InputError(
                "a reference is compared with over the sweep, which is switched off",
                fix="leave out --no-sweep or --reference",
            )
        if self.reference is not None and "fp32" not in (self.precisions or PRECISIONS):
            raise InputError(
                "a reference is compared with the fp32 artefact, which is left out",
                fix="add --precision fp32, or leave out --reference",
            )
