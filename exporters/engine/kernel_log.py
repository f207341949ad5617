"""An engine's kernels as the compiler of TensorRT for RTX logs them, in the form of TensorRT's inspector.

Its inspector needs a GPU, and its log does not: with detailed profiling verbosity every kernel stands in it
in one line (``Name: .., LayerType: .., Inputs: [ { Name: .., Dimensions: [..], .. Datatype: .. }], Constants:
[..], Outputs: [..], TacticName: .., StreamId: ..``), and at the end what the engine holds and takes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from glpn_deploy.errors import ExportError

_KERNEL = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<read>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<written>.*?)\], TacticName: (?P<tactic>.*?), StreamId: "
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([\d,-]*)\].*?Datatype: (\w+)")
_TOTALS = {"weights": "Total Weights Memory", "activations": "Total Activation Memory"}


@dataclasses.dataclass(frozen=True)
class KernelLog:
    """What a build's log tells of the engine.

    Attributes:
        layers: One dictionary a kernel, as the inspector's JSON has it: ``Name``, ``LayerType``, ``Inputs``,
            ``Outputs``, ``TacticName``.
        activation_bytes: Memory that one execution context takes beside them.
    """

    layers: tuple[dict[str, Any], ...]
    weights_bytes: int
    activation_bytes: int


def read_kernel_log(messages: Iterable[str]) -> KernelLog:
    """Reads the log of one build."""
    layers: list[dict[str, Any]] = []
    totals: dict[str, int] = {}
    for message in messages:
        for name, label in _TOTALS.items():
            if found := re.match(rf"{label}: (\d+) bytes", message):
                totals[name] = int(found[1])
        layers += [_layer(found) for line in message.splitlines() if (found := _KERNEL.match(line))]
    if not layers or totals.keys() != _TOTALS.keys():
        raise ExportError(
            "the compiler's log does not tell the engine's kernels",
            expected="lines such as 'Name: .., LayerType: gemm, Inputs: ..' from TensorRT for RTX 1.7",
        )
    return KernelLog(tuple(layers), totals["weights"], totals["activations"])


def _layer(found: re.Match[str]) -> dict[str, Any]:
    return {
        "Name": found["name"],
        "LayerType": found["kind"],
        "Inputs": _tensors(found["read"]),
        "Outputs": _tensors(found["written"]),
        "TacticName": found["tactic"],
    }


def _tensors(text: str) -> list[dict[str, Any]]:
    return [
        {"Name": name, "Dimensions": [int(n) for n in sides.split(",") if n], "Format/Datatype": kind}
        for name, sides, kind in _TENSOR.findall(text)
    ]
