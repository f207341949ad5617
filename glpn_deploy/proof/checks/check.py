"""What an accuracy check is: a graph goes in, a result comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class CheckResult(Protocol):
    """What a check found of one graph; ``str`` gives it as a clause."""

    @property
    def passed(self) -> bool:
        """Whether the graph is good enough."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, under keys that no other check has."""


class Check(Protocol):
    """Asks whether a graph of one precision is good enough."""

    def __call__(self, graph: Path, title: str) -> CheckResult:
        """Checks one graph.

        Args:
            graph: The ``.onnx`` file, alone in a folder that can be written to.
            title: What it is, for the progress.
        """
