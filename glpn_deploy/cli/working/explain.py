"""The work of glpn-build --explain: a column for every graph, so that they can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from glpn_deploy.cli.console import output, print_json
from glpn_deploy.exporters.engine.engine_options import EngineOptions, WantedEngines
from glpn_deploy.exporters.engine.explain import KINDS, Explanation
from glpn_deploy.exporters.engine.explain_graphs import TARGETS, explain_source
from glpn_deploy.gpu.cuda_device import find_device_or_none

_NAME_CHARACTERS = 70


def run(source: Path, wanted: WantedEngines, options: EngineOptions, *, as_json: bool) -> None:
    """Compiles each graph, and prints what its engine consists of.

    Raises:
        GlpnError: One cannot be compiled.
    """
    console = output(as_json=as_json)
    if wanted.rtx or wanted.targets is not None or find_device_or_none() is None:
        options = dataclasses.replace(options, targets=wanted.targets or TARGETS)
    explained = explain_source(source, wanted.precisions or (None,), options)
    say_explanations(console, explained)
    if as_json:
        print_json({"explained": [one.to_dict() for one in explained]})


def say_explanations(console: Console, explained: Sequence[Explanation]) -> None:
    """Prints a table of all, and the heaviest kernels of each."""
    table = Table("", *(one.title for one in explained), title=explained[0].target, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    kinds = [one.by_kind() for one in explained]
    rows = {
        "kernels": [str(len(one.kernels)) for one in explained],
        "traffic": [_size(one.traffic_bytes) for one in explained],
        "weights": [_size(one.weights_bytes) for one in explained],
        "scratch memory": [_size(one.scratch_bytes) for one in explained],
        "engine": [_size(one.plan_bytes) for one in explained],
        "layers": [", ".join(f"{n} {name}" for name, n in one.layers.items()) for one in explained],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells, end_section=name == "layers")
    for kind in KINDS:
        if any(kind in found for found in kinds):
            counts = [found.get(kind, (0, 0)) for found in kinds]
            table.add_row(kind, *(f"{count}, {_size(traffic)}" for count, traffic in counts))
    console.print(table)
    for one in explained:
        console.print(f"\nHeaviest of {one.title}, for a batch of {one.to_dict()['shape']}:", markup=False)
        for kernel in one.heaviest():
            name = kernel.name[:_NAME_CHARACTERS]
            console.print(f"  {_size(kernel.traffic_bytes):>9}  {kernel.kind}: {name}", markup=False)


def _size(count: int | None) -> str:
    return "not told" if count is None else f"{count / 1e6:.1f} MB"
