"""What tables of figures are written with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Section = Mapping[str, Any]


def measured(section: Section) -> str:
    """When, on what and with what."""
    environment = section["environment"]
    named = ("onnxruntime", "openvino", "torch", "transformers")
    versions = ", ".join(
        f"{name} {environment['versions'][name]}" for name in named if name in environment["versions"]
    )
    return f"Measured on {section['measured']}: {environment['processor']}; {versions}."


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Markdown; with ``right``, all columns but the first are set to the right."""
    line = ["---"] + ["---:" if right else "---"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, line, *body))
