"""Bundles with a second artefact whose error is known, since it is planted behind the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from glpn_deploy.bundle.bundle import Bundle, write_manifest
from glpn_deploy.runtimes.onnx_file.header import read_header

Plant = Callable[..., Path]


def behind(source: Path, target: Path, steps: list[tuple[str, int, float]]) -> None:
    """Writes a copy of a graph that ends in more nodes: (operator, element type, constant) each.

    ``Cast`` casts to the element type and has no constant.
    """
    model = onnx.load(source)
    graph, output = model.graph, model.graph.output[0].name
    for node in graph.node:
        node.output[:] = ["planted_0" if name == output else name for name in node.output]
    for number, (operator, kind, value) in enumerate(steps, 1):
        ends = ([f"planted_{number - 1}"], [output if number == len(steps) else f"planted_{number}"])
        name = f"glpn.planted/{operator}_{number}"
        if operator == "Cast":
            graph.node.append(helper.make_node("Cast", *ends, name=name, to=kind))
            continue
        graph.initializer.append(helper.make_tensor(f"planted_value_{number}", kind, [], [value]))
        ends[0].append(f"planted_value_{number}")
        graph.node.append(helper.make_node(operator, *ends, name=name))
    onnx.save(model, target)


@pytest.fixture
def plant() -> Plant:
    """Adds an artefact that gives ``factor * depth + offset`` of the bundle's own, or ends in ``steps``."""

    def add(
        folder: Path,
        precision: str,
        factor: float = 1.0,
        offset: float = 0.0,
        steps: list[tuple[str, int, float]] | None = None,
        **fields: Any,
    ) -> Path:
        manifest, file = Bundle.open(folder).manifest, f"model.{precision}.onnx"
        plain = [("Mul", TensorProto.FLOAT, factor), ("Add", TensorProto.FLOAT, offset)]
        behind(folder / "model.onnx", folder / file, steps or plain)
        artefact = dataclasses.replace(
            manifest.artefacts[0],
            file=file,
            precision=precision,
            nodes=read_header(folder / file).nodes,
            parity=None,
            **fields,
        )
        write_manifest(folder, dataclasses.replace(manifest, artefacts=(*manifest.artefacts, artefact)))
        return folder

    return add
