"""bundle or .onnx -> what engines of it consist of: compiled, told of, and not kept."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.errors import InputError
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.explain import Explanation, compare
from glpn_deploy.exporters.engines import plan_engine
from glpn_deploy.exporters.to_engine import explain_onnx
from glpn_deploy.gpu.tensorrt_rtx import PACKAGE
from glpn_deploy.precisions import Precision
from glpn_deploy.runtimes.onnx_file.header import read_header

TARGETS = ("8.9",)
"""Ada: what graphs are held against each other for, where nothing else is asked for."""
WORTH = 0.95
"""A graph that moves more than this share of another one's bytes is no gain worth a depth that moved."""


@dataclasses.dataclass(frozen=True)
class TrafficVerdict:
    """Whether a lower precision pays on another GPU, as far as its compiler's figures tell.

    Attributes:
        beside: The engine of what it should be better than.
        recommended: It moves clearly fewer bytes.
    """

    candidate: Explanation
    beside: Explanation
    recommended: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and for ``--json``."""
        return {
            "recommended": self.recommended,
            "sentence": self.sentence,
            "candidate": self.candidate.to_dict(),
            "beside": self.beside.to_dict(),
        }


def explain_source(
    source: Path, precisions: Sequence[Precision | None], options: EngineOptions
) -> list[Explanation]:
    """Compiles a bundle's artefacts, or an ONNX file of whatever origin, and tells what came of them.

    Args:
        precisions: Which of the bundle's; None among them takes the one that `plan_engine` would build.
    """
    if source.suffix == ".onnx":
        named = [precision for precision in precisions if precision is not None]
        if named:
            raise InputError(f"precision {named[0]} of {source}", fix="leave it out: the file has its own")
        said = read_header(source).precision
        return [explain_onnx(source, dataclasses.replace(options, precision=said))]
    plans = [plan_engine(source, precision, options) for precision in precisions]
    return [explain_onnx(plan.onnx, plan.options) for plan in plans]


class Compiler:
    """Holds graphs of one network against each other, as NVIDIA's compiler for RTX cards takes them."""

    def __init__(self) -> None:
        self._found: dict[Path, Explanation] = {}

    @staticmethod
    def installed() -> bool:
        """Whether it can be asked."""
        return importlib.util.find_spec(PACKAGE) is not None

    def verdict(self, precision: Precision, graph: Path, other: Precision, beside: Path) -> TrafficVerdict:
        """Compiles two graphs, each once in the life of this object, and compares them."""
        return judge_traffic(self._explain(graph, precision), self._explain(beside, other), precision, other)

    def _explain(self, graph: Path, precision: Precision) -> Explanation:
        if graph not in self._found:
            options = EngineOptions(precision=precision, targets=TARGETS)
            self._found[graph] = explain_onnx(graph, options)
        return self._found[graph]


def judge_traffic(candidate: Explanation, beside: Explanation, precision: str, other: str) -> TrafficVerdict:
    """Whether an engine moves fewer bytes than another one of the same network, target and shape."""
    recommended = candidate.traffic_bytes < WORTH * beside.traffic_bytes
    verb = "moves fewer bytes" if recommended else "moves no fewer bytes"
    if candidate.traffic_bytes > beside.traffic_bytes:
        verb = "moves more bytes"
    end = "worth measuring there" if recommended else "not worth it there"
    sentence = f"{precision} {verb} than {other} ({compare(candidate, beside)}; {candidate.target}): {end}"
    return TrafficVerdict(candidate, beside, recommended, sentence)
