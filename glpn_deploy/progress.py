"""How long work tells of itself: a library function reports steps, the command line shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Step(Protocol):
    """One step of long work while it runs."""

    def advance(self, detail: str = "") -> None:
        """One unit of the step's total is done; ``detail`` says which."""

    def finish(self, summary: str) -> None:
        """What the step found or wrote, shown when it ends."""


class Progress(Protocol):
    """Receives the steps of long work."""

    def step(self, title: str, total: int | None = None) -> contextlib.AbstractContextManager[Step]:
        """Opens a step of ``total`` units, or of unknown length."""


class _SilentStep:
    def advance(self, detail: str = "") -> None:
        """Nothing is shown."""

    def finish(self, summary: str) -> None:
        """Nothing is shown."""


class SilentProgress:
    """Shows nothing; what library callers get unless they pass their own."""

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """A step that is not shown."""
        yield _SilentStep()
