"""What precision an engine really computes in, read from TensorRT's inspector.

The inspector's JSON describes the type of every tensor, in three ways: up to 10.x ``Format/Datatype`` holds a
sentence ("Channel major FP16 format where channel % 8 == 0") or, within what the Myelin compiler made, a type
("Half"); 11.x has ``Format`` and ``DataType``. Of layers outside Myelin it says "N/A due to dynamic shapes"
until it is given shapes; then the weights' type and the kernel's name are what is left. On 8.6 one Myelin
layer stands for many nodes and tells the types at its borders only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from glpn_deploy.bundle.engine_profile import Shape
from glpn_deploy.errors import ExportError

UNKNOWN = "unknown"
_COARSEST_FIRST = ("int8", "fp8", "fp16", "bf16", "fp32")
_FLOATS = frozenset({"fp16", "bf16", "fp32"})
_WHOLE = "whole numbers"  # shapes, indices and truth values

_TYPES = (
    (r"\buint8\b|\bu?int(16|32|64)\b|\bbool\b", _WHOLE),
    (r"\bbfloat16\b|\bbf16\b", "bf16"),
    (r"\bhalf\b|\bfp16\b|\bfloat16\b", "fp16"),
    (r"\bfp8\b|\bfloat8", "fp8"),
    (r"\bint8\b", "int8"),
    (r"\bfloat\b|\bfp32\b|\bfloat32\b", "fp32"),
)
# Types of the operands within kernels' names: sm80_xmma_gemm_f16f16_f16f32_f32_.., ampere_h16816gemm_..
_KERNELS = (
    (r"_i8(i8|f32|f16)_|int8|i8816|i16832|imma", "int8"),
    (r"e4m3|e5m2|_fp8", "fp8"),
    (r"bf16", "bf16"),
    (r"f16f16|h1688|h16816|h884|hmma|hgemm|fp16|half", "fp16"),
    (r"f32f32|tf32|sgemm|scudnn|s1688|ffma|fp32", "fp32"),
)
# What moves, renames or converts: a cast to FP16 makes no FP16 engine.
_MOVING = re.compile(
    "reformat|noop|constant|shape|shuffle|signal|wait|cast|identity|slice|concat|gather|copy|quantize",
    re.IGNORECASE,
)
# What multiplies: its inputs say what it computes in, while its output is often wider.
_PRODUCT = re.compile("conv|correlation|gemm|matrixmultiply|matmul|fusion|myelin|attention", re.IGNORECASE)
_GENERATED_PRODUCT = re.compile("gemm|mha|xmma", re.IGNORECASE)


def inspect_engine(module: Any, engine: Any, shape: Shape | None) -> list[dict[str, Any]]:
    """What the inspector tells of an engine's layers.

    Args:
        engine: An ``ICudaEngine`` built with detailed verbosity.
        shape: A shape of its first profile, under which TensorRT tells every tensor's type; None for an
            engine without its weights, which has no execution context yet.

    Returns:
        One dictionary a layer, for `layer_precisions` and `explain.explain`.
    """
    inspector = engine.create_engine_inspector()
    context = None if shape is None else engine.create_execution_context()
    if shape is not None and context is not None:
        batch, height, width = shape
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        (name,) = [n for n in names if engine.get_tensor_mode(n) == module.TensorIOMode.INPUT]
        context.set_input_shape(name, (batch, 3, height, width))
        inspector.execution_context = context
    return read_report(str(inspector.get_engine_information(module.LayerInformationFormat.JSON)))


def read_report(text: str) -> list[dict[str, Any]]:
    """The layers in the inspector's JSON."""
    try:
        report = json.loads(text)
    except ValueError:
        report = None
    layers = report.get("Layers") if isinstance(report, dict) else None
    if not isinstance(layers, list):
        raise ExportError("TensorRT's inspector gave no report that can be read", expected="JSON with Layers")
    detailed = [layer for layer in layers if isinstance(layer, dict)]
    if layers and not detailed:
        raise ExportError(
            "the engine names its layers and tells no more",
            expected="one built with detailed profiling verbosity",
        )
    return detailed


def layer_precisions(layers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Counts layers, in the inspector's form, by precision.

    Layers that multiply count by the coarsest type they read, the others by the finest float they write.
    Layers that move or convert data and those of whole numbers do not count; those that tell nothing are
    ``unknown``.

    Returns:
        ``{"fp16": 61, "fp32": 4}``.
    """
    found = Counter(name for layer in layers if (name := _layer_precision(layer)) is not None)
    return {name: found[name] for name in (*_COARSEST_FIRST, UNKNOWN) if found[name]}


def require_precision(layers: Mapping[str, int], precision: str) -> None:
    """Checks that an engine computes in what its graph promises.

    A missing builder flag, or a graph that lost its types, gives an engine that works and is slow.
    """
    if precision == "fp32" or layers.get(precision, 0):
        return
    told = ", ".join(f"{count} in {name}" for name, count in layers.items()) or "of none a type"
    raise ExportError(
        f"no layer of the engine computes in {precision} (TensorRT tells {told})",
        expected=f"{precision} layers, as the bundle promises",
        fix=f"write the graph anew, glpn-export CHECKPOINT --{precision}, and build again",
    )


def type_of(text: str) -> str | None:
    """The type that the description of a tensor names, or None where it names none."""
    return next((name for pattern, name in _TYPES if re.search(pattern, text, re.IGNORECASE)), None)


def _layer_precision(layer: Mapping[str, Any]) -> str | None:
    """A layer's precision; None for one that does not count."""
    kind, tactic = str(layer.get("LayerType", "")), str(layer.get("TacticName", ""))
    if _MOVING.search(kind):
        return None
    read, written = _types(layer.get("Inputs")), _types(layer.get("Outputs"))
    generated = kind == "kgen" and _GENERATED_PRODUCT.search(f"{layer.get('Name')} {tactic}")
    if generated or _PRODUCT.search(kind):
        if kind == "Myelin":  # many nodes, and no more is told of them
            read |= written
        weights = layer.get("Weights")
        if isinstance(weights, dict):
            read.add(type_of(str(weights.get("Type"))) or _WHOLE)
        coarsest = next((name for name in _COARSEST_FIRST if name in read), None)
        if coarsest is None and not written:
            coarsest = _kernel_type(tactic)
        return coarsest or _finest(written) or (None if read | written else UNKNOWN)
    return _finest(written) or _finest(read) or (None if read | written else UNKNOWN)


def _types(tensors: Any) -> set[str]:
    found = {type_of(_description(tensor)) for tensor in tensors or () if isinstance(tensor, dict)}
    return {name for name in found if name is not None}


def _description(tensor: Mapping[str, Any]) -> str:
    """A tensor's type in the words of its version; 11.x has it apart from the layout."""
    names = {key.lower(): key for key in tensor}
    key = names.get("datatype") or names.get("format/datatype") or names.get("format")
    return "" if key is None else str(tensor[key])


def _finest(types: set[str]) -> str | None:
    return next((name for name in reversed(_COARSEST_FIRST) if name in types & _FLOATS), None)


def _kernel_type(tactic: str) -> str | None:
    return next((name for pattern, name in _KERNELS if re.search(pattern, tactic, re.IGNORECASE)), None)
