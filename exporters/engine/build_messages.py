"""What TensorRT said of a build: its warnings told once, and a failure in one sentence with what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from glpn_deploy.bundle.engine_fields import MAX_WARNINGS
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.engine_source import EngineSource
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.precisions import QUANTIZED_PRECISIONS

_OUT_OF_MEMORY = re.compile(
    r"out\s*of\s*memory|insufficient memory|MemoryAllocation|requested amount of gpu memory|bad_alloc",
    re.IGNORECASE,
)
_WORKSPACE = re.compile(r"insufficient workspace|increas\w+ the workspace", re.IGNORECASE)
_SKIPPED = re.compile(
    r"skipping tactic.*insufficient memory|memory is insufficient to use tactic", re.IGNORECASE | re.DOTALL
)
_NO_KERNEL = re.compile(r"could not find any implementation for node\s+(.*)", re.IGNORECASE)
_PRODUCTS = ("Conv", "MatMul", "Gemm")
_QUOTED, _QUOTED_CHARACTERS = 2, 300


def told_warnings(messages: Sequence[str]) -> tuple[str, ...]:
    """Warnings each once and in one line, at most `MAX_WARNINGS`, after a count of kernels skipped."""
    skipped = sum(1 for message in messages if _SKIPPED.search(message))
    told = []
    if skipped:
        told.append(
            f"{skipped} kernels were not tried for lack of memory, and faster ones may be among them: close "
            "other programs, or give more with --tactic-memory, and build again"
        )
    told += dict.fromkeys(one_line(message) for message in messages if not _SKIPPED.search(message))
    return tuple(told[:MAX_WARNINGS])


def parser_refusal(errors: Sequence[Any], graph: EngineSource) -> ExportError:
    """What the parser refuses, an ``IParserError`` each, with the nodes it is about."""
    reasons = [f"{_node(error, graph.nodes)}: {one_line(error.desc())}" for error in errors]
    return ExportError(
        f"TensorRT's parser refuses {graph.path.name} ({'; '.join(reasons[:_QUOTED]) or 'no reason given'})",
        fix="export the bundle again with --opset 17, which every version reads",
    )


def _node(error: Any, nodes: Sequence[str]) -> str:
    """The node that a parser error is about: by name from 10.x on, by number before."""
    name = getattr(error, "node_name", None)
    if name is not None and name():
        return f"{error.node_operator()} {name()}"
    number = error.node()
    return nodes[number] if 0 <= number < len(nodes) else "the graph"


def build_failure(
    name: str, errors: Sequence[str], options: EngineOptions, device: CudaDevice | None, graph: EngineSource
) -> ExportError:
    """A failed build in one sentence with TensorRT's last words, and what to try.

    Args:
        device: The GPU, or None where it builds for others.
    """
    text, what, words = "\n".join(errors), f"{name} could not build the engine", quoted(errors)
    if device is None:
        fix = "name fewer targets with --sm, or export the bundle again with --opset 20"
        return ExportError(f"{what}{words}", fix=fix)
    if _OUT_OF_MEMORY.search(text):
        free = device.free_bytes()
        left = "" if free is None else f", with {free / 2**30:.1f} GiB free now"
        limit = 256 if options.workspace_mb is None else max(options.workspace_mb // 2, 64)
        return ExportError(
            f"{device.name} ran out of memory during the build{left}{words}",
            fix=f"close other programs, try --workspace {limit}, or build for a smaller --batch or --size",
        )
    if _WORKSPACE.search(text):
        return ExportError(
            f"{what}: the workspace is too small{words}",
            fix="give more with --workspace, in MiB, or leave it out",
        )
    if (found := _NO_KERNEL.search(text)) and options.precision in QUANTIZED_PRECISIONS:
        node = _product(found[1], graph.nodes)
        left_out = f'nodes_to_exclude={{"{node.partition(" ")[2]}"}}' if node else "nodes_to_exclude"
        return ExportError(
            f"{what}: it has no {options.precision} kernel for {node or 'a quantized node'}{words}",
            fix=f"export again with that node not quantized ({left_out} in to_{options.precision}), or build "
            "--precision fp16",
        )
    return ExportError(
        f"{what}{words}",
        fix="try --level 2 or other shapes; glpn-doctor names what is known of this TensorRT version",
    )


def _product(words: str, nodes: Sequence[str]) -> str:
    """The product of the graph that TensorRT's words are about: one they name, else the next behind it."""
    named = set(re.split(r"[\s+{}\[\](),]+|\.\.\.|\.(?=\W|$)", words))
    places = [number for number, node in enumerate(nodes) if node.partition(" ")[2] in named - {""}]
    behind = nodes[places[0] :] if places else ()
    among = [nodes[number] for number in places]
    return next((node for node in (*among, *behind) if node.startswith(_PRODUCTS)), "")


def quoted(errors: Sequence[str]) -> str:
    """The last words, in brackets; empty where nothing was said."""
    last = "; ".join(one_line(error) for error in errors[-_QUOTED:])
    return f" ({last})" if last else ""


def one_line(message: str) -> str:
    """A message of TensorRT's that can be printed."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    return text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 3] + "..."
