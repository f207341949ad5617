"""Reading, writing and looking around in our own ONNX graphs: what the precision arrows share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package apart
from onnx import TensorProto, helper

from glpn_deploy.atomic import staging_folder
from glpn_deploy.errors import ExportError
from glpn_deploy.exporters.graph.half_numbers import HALF_TYPES
from glpn_deploy.precisions import PRECISION_INFO

SINGLE_FILE_LIMIT = 2**31 - 2**24
"""Bytes of weights in one file: protobuf cannot hold 2 GiB; what is left is for the graph beside them."""

QUANTIZED_OPS = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)

FP8_TYPES = frozenset(TensorProto.DataType.Value(name) for name in PRECISION_INFO["fp8"].onnx_types)

_SMALL = 1024  # bytes; what shape inference may want to read (scales, split sizes) is far smaller


def load_graph(path: Path) -> onnx.ModelProto:
    """Reads one of our own ONNX files, weights included.

    Args:
        path: A file that `to_onnx` or one of the arrows after it wrote.

    Raises:
        ExportError: There is no such file, it is not ONNX, or it is not one of ours.
    """
    fix = "make one with glpn-export CHECKPOINT OUT"
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror or error})", fix=fix) from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise ExportError(f"{path} is not a readable ONNX file ({reason})", fix=fix) from error
    if not any(entry.key == "glpn_config" for entry in model.metadata_props):
        raise ExportError(f"{path} does not come from glpn-export", expected="a GLPN graph of ours", fix=fix)
    require_names(model)
    return model


def require_names(model: onnx.ModelProto) -> None:
    """Checks that every node has a name of its own.

    Raises:
        ExportError: Names are missing or stand for two nodes.
    """
    counts = Counter(node.name for node in model.graph.node)
    bad = sorted(name or "(no name)" for name, count in counts.items() if count > 1 or not name)
    if bad:
        raise ExportError(
            f"{len(bad)} node names are empty or used twice, such as {bad[0]}", expected="one name a node"
        )


def save_graph(model: onnx.ModelProto, path: Path, single_file_limit: int = SINGLE_FILE_LIMIT) -> Path:
    """Writes a model whole or not at all, and checks it; weights beyond protobuf's limit go beside it.

    Args:
        model: The model; its large tensors may be moved into external form.
        path: Where the file shall stand. Weights beside it are ``<name>.data``.
        single_file_limit: Weights of more bytes than this go there.

    Returns:
        ``path``. The same model gives the same bytes.

    Raises:
        ExportError: The graph is not valid ONNX (types and shapes included).
        WriteError: The file could not be written.
    """
    nbytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    with staging_folder(path) as folder:
        part = folder / path.name
        external = nbytes > single_file_limit
        onnx.save_model(model, str(part), save_as_external_data=external, location=f"{path.name}.data")
        try:
            onnx.checker.check_model(str(part), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(
                f"the written graph is not valid ONNX ({str(error).splitlines()[0]})"
            ) from error
        for written in sorted(folder.iterdir(), reverse=True):  # the data before the graph that names it
            written.replace(path.parent / written.name)
    return path


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model asks for."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def precision_of(model: onnx.ModelProto) -> str:
    """What the graph computes in: ``fp32 fp16 bf16 int8 fp8``, from its metadata and its tensors."""
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    stated = str({entry.key: entry.value for entry in model.metadata_props}.get("precision", "fp32"))
    if kinds & FP8_TYPES:
        return "fp8"
    if any(node.op_type in QUANTIZED_OPS for node in model.graph.node):
        return "int8" if stated == "fp32" else stated
    for name, kind in HALF_TYPES.items():
        if kind in kinds:
            return name
    return stated


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type (``TensorProto.FLOAT`` ...) of every tensor that ONNX's own inference can type."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    for value in (*inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for shape inference, in which large weights are inputs of their shape."""
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= _SMALL:
            bare.graph.initializer.append(tensor)
        else:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(value)
    return bare
