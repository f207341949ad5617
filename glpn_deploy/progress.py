"""How long work tells of itself: a library function opens steps, the command line shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol


class Step(Protocol):
    """One step of long work while it runs."""

    def advance(self, detail: str = "") -> None:
        """One unit of the step's total is done; ``detail`` says which."""

    def finish(self, summary: str) -> None:
        """What the step found or wrote, shown when it ends."""

    def fail(self, summary: str) -> None:
        """The same of a check that failed."""

    def warn(self, summary: str) -> None:
        """The same of what could not be done."""


class Progress(Protocol):
    """Receives the steps of long work. A step that is opened within another is a detail of it."""

    def step(self, title: str, total: int | None = None) -> contextlib.AbstractContextManager[Step]:
        """Opens a step of ``total`` units, or of unknown length."""


class _Silent:
    """Shows nothing: what library callers get unless they ask for more."""

    def advance(self, detail: str = "") -> None:
        """Nothing is shown."""

    def finish(self, summary: str) -> None:
        """Nothing is shown."""

    def fail(self, summary: str) -> None:
        """Nothing is shown."""

    def warn(self, summary: str) -> None:
        """Nothing is shown."""

    def step(self, title: str, total: int | None = None) -> contextlib.AbstractContextManager[Step]:
        """A step that is not shown."""
        return contextlib.nullcontext(self)


_SILENT = _Silent()
_receiver: ContextVar[Progress] = ContextVar("progress", default=_SILENT)


def step(title: str, total: int | None = None) -> contextlib.AbstractContextManager[Step]:
    """Opens a step of ``total`` units, or of unknown length, where this context shows its progress."""
    return _receiver.get().step(title, total)


def show(receiver: Progress) -> None:
    """Shows all further steps of this context (`contextvars`) through ``receiver``."""
    _receiver.set(receiver)


@contextlib.contextmanager
def shown(receiver: Progress) -> Iterator[None]:
    """Shows the steps of a ``with`` block through ``receiver``."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)
