"""Options that several commands share, with their help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where to run; auto takes the GPU where the backend finds one."),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads within one operator [default: the backend's].")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use the hub's cache only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
