"""A receiver of progress that writes down what it is told."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass
class Told:
    """A step, as it was told."""

    title: str
    total: int | None
    advances: list[str] = dataclasses.field(default_factory=list)
    summary: str | None = None
    open: bool = True

    def advance(self, detail: str = "") -> None:
        self.advances.append(detail)

    def finish(self, summary: str) -> None:
        self.summary = summary

    fail = warn = finish


class Listener:
    """Keeps the steps in the order in which they began."""

    def __init__(self) -> None:
        self.steps: list[Told] = []

    @contextlib.contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Told]:
        self.steps.append(told := Told(title, total))
        yield told
        told.open = False

    def __getitem__(self, title: str) -> Told:
        return next(step for step in self.steps if step.title == title)
