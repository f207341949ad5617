"""How an artefact is run where it stands."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glpn_deploy.runtimes.base import Runtime


@dataclasses.dataclass(frozen=True)
class ArtefactRun:
    """A loaded artefact.

    Attributes:
        path: The graph that is run: the artefact, or its emulation.
        how: ``native``, ``emulated fp16`` or ``emulated bf16``.
        caution: What the run cannot show, or nothing.
        plain_qdq: Whether Q/DQ pairs are computed as they stand, at the basic optimisation level.
    """

    runtime: Runtime
    path: Path
    how: str = "native"
    caution: str = ""
    plain_qdq: bool = False
