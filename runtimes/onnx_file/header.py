"""What an ONNX file says of itself, read without loading it: shapes, scale, precision, and its files."""

from __future__ import annotations

import dataclasses
import functools
import math
import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.bundle.identity import Identity, identity
from glpn_deploy.errors import BundleError
from glpn_deploy.runtimes.base import PRECISIONS, InputSpec, Precision
from glpn_deploy.runtimes.onnx_file.external_data import check_locations
from glpn_deploy.runtimes.onnx_file.plain import Contents, NotPlainError, check_plain
from glpn_deploy.runtimes.onnx_file.protobuf import DamagedError, fields, integers

_TYPES = {1: "float32", 10: "float16", 2: "uint8"}  # TensorProto.DataType, and numpy's names
_IO = {"float32": "fp32", "float16": "fp16", "uint8": "uint8"}
_HALF: dict[int, Precision] = {10: "fp16", 16: "bf16"}
_FP8 = frozenset((17, 18, 19, 20))
_QUANTIZED = ("Quantize", "Dequantize", "QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize", "QGemm")
Side = int | str | None
_Value = tuple[str, int, list[Side]]  # name, element type, shape


@dataclasses.dataclass(frozen=True)
class OnnxHeader:
    """A depth network's ONNX file, as far as it can be known without loading it.

    Attributes:
        max_depth: The network's scale [m], or None where the file does not say.
        precision: What the graph computes in, by its tensors and operators, else by what the file says.
        files: The file itself and those it keeps weights in.
        target: Whose kernels an INT8 or FP8 graph was made for (``tensorrt``, ``cpu``); empty where neither
            the file nor its FP16 scales, which are TensorRT's, say it.
        input_type: ``float32``, ``float16`` or ``uint8``, what the input takes; the output's is one of the
            first two, and may be the other.
        stated: The precision that the file says; another one than ``precision`` where it was converted since.
        opset: Version of ONNX's operators.
        nodes: Nodes in the graph.
        tensors: Input and output as a bundle's manifest describes them: dtype, shape, layout, range, unit.
    """

    spec: InputSpec
    max_depth: float | None
    precision: Precision
    files: tuple[Path, ...]
    target: str = ""
    input: str = ""
    output: str = ""
    input_type: str = "float32"
    stated: Precision | None = None
    opset: int = 0
    nodes: int = 0
    tensors: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def io(self) -> str:
        """The type of input and output as a manifest says it."""
        return _IO[self.input_type]


def check_file(path: Path) -> list[Path]:
    """Checks that an ONNX file is a plain network and keeps its weights beside it.

    Returns:
        The files it keeps weights in.

    Raises:
        BundleError: It is missing, cannot be read, is damaged, is no plain network, or names files outside
            its folder.
    """
    return check_locations(path, read_contents(path).locations)


def read_contents(path: Path) -> Contents:
    """What an ONNX file is made of; other than `check_file`, without looking at where its weights are."""
    if not path.is_file():
        raise BundleError(f"there is no file {path}", expected="an .onnx file")
    try:
        return _contents(path, identity(path))
    except NotPlainError as error:
        raise BundleError(
            f"{path} holds {error}, which no plain network does",
            expected="tensor operators of ONNX or com.microsoft, of sizes within reason",
            fix="export the network again; do not use a file that you do not trust",
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})", fix="check its permissions") from error
    except (DamagedError, ValueError):  # ValueError: an empty file cannot be mapped
        raise damaged(path) from None


@functools.lru_cache(maxsize=16)
def _contents(path: Path, _now: Identity) -> Contents:
    """What `check_plain` gives; links are followed every time, by `check_locations`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return check_plain(content)


def read_header(path: Path) -> OnnxHeader:
    """Reads what an ONNX file says of itself; it is parsed once for as long as it stays as it is.

    Raises:
        BundleError: As `check_file`, or it is not a depth network.
    """
    weights = check_file(path)
    try:
        now = identity(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})", fix="load it again") from error
    return dataclasses.replace(_parse(path, now), files=(path, *weights))


@functools.lru_cache(maxsize=16)
def _parse(path: Path, now: Identity) -> OnnxHeader:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            inputs, outputs, about = _read(content)
    except (DamagedError, UnicodeDecodeError, OSError):
        raise damaged(path) from None
    found = [(_TYPES.get(kind), len(shape)) for _, kind, shape in (*inputs, *outputs)]
    wanted = [({*_TYPES.values()}, 4), ({"float32", "float16"}, 3)]
    if [n for _, n in found] != [4, 3] or any(
        f not in w for (f, _), (w, _) in zip(found, wanted, strict=True)
    ):
        raise BundleError(
            f"{path} has inputs {[(name, shape) for name, _, shape in inputs]} "
            f"and outputs {[(name, shape) for name, _, shape in outputs]}",
            expected="one float32 image batch in and one depth batch out (or float16, or uint8 images)",
        )
    stated = next((name for name in PRECISIONS if name == about.get("precision")), None)
    contents, (name, kind, shape) = _contents(path, now), inputs[0]
    of_tensorrt = not contents.scale_types.isdisjoint(_HALF)
    return OnnxHeader(
        spec=input_spec(shape, bytes_in=_TYPES[kind] == "uint8"),
        max_depth=positive_scale(about.get("max_depth"), path),
        precision=_computed_in(contents) or stated or _HALF.get(kind, "fp32"),
        files=(path,),
        target=about.get("target", "tensorrt" if of_tensorrt else ""),
        input=name,
        output=outputs[0][0],
        input_type=_TYPES[kind],
        stated=stated,
        opset=contents.opset,
        nodes=len(contents.nodes),
        tensors=_described(inputs[0], outputs[0]),
    )


def _described(pixels: _Value, depth: _Value) -> dict[str, dict[str, Any]]:
    about = {"dtype": _TYPES[pixels[1]], "layout": "NCHW", "range": "RGB, 0 to 1"}
    if _TYPES[pixels[1]] == "uint8":
        about |= {"layout": "NHWC", "range": "RGB, 0 to 255"}
    return {
        pixels[0]: {"shape": pixels[2], **about},
        depth[0]: {"shape": depth[2], "dtype": _TYPES[depth[1]], "unit": "metres"},
    }


def _computed_in(contents: Contents) -> Precision | None:
    """What the tensors and operators show a graph to compute in; None where all may be FP32."""
    if contents.types & _FP8:
        return "fp8"
    if any(name.startswith(_QUANTIZED) for name in contents.operators):
        return "int8"
    return next((precision for kind, precision in _HALF.items() if kind in contents.types), None)


def read_metadata(source: Path | bytes) -> dict[str, str]:
    """The metadata of any ONNX file or serialized graph; empty where it cannot be read."""
    try:
        if isinstance(source, bytes):
            return _metadata(source)
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _metadata(content)
    except (DamagedError, ValueError, OSError):  # loading it says what is wrong
        return {}


def input_spec(shape: Sequence[Side], *, bytes_in: bool = False) -> InputSpec:
    """Reads the shapes a graph takes from its input, whose free sides are called ``32*h32``."""
    batch, first, second, third = shape
    channels, height, width = (third, first, second) if bytes_in else (first, second, third)

    def fixed(size: Side) -> int | None:
        return size if isinstance(size, int) else None

    multiples = [re.fullmatch(r"(\d+)\*\w+", size) for size in (height, width) if isinstance(size, str)]
    multiple = max((int(match[1]) for match in multiples if match), default=32)
    if any(isinstance(size, int) and size % multiple for size in (height, width)):
        multiple = 1
    return InputSpec(
        channels=fixed(channels) or 3,
        size_multiple=multiple,
        batch=fixed(batch),
        height=fixed(height),
        width=fixed(width),
        dtype="uint8" if bytes_in else "float32",
    )


def positive_scale(text: str | None, path: Path) -> float | None:
    """A scale from a file's metadata [m]."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BundleError(f"{path} says max_depth {text!r}", expected="a number of metres above 0")
    return value


def damaged(path: Path) -> BundleError:
    """The refusal of what is no ONNX file."""
    return BundleError(
        f"{path} is not an ONNX file, or is damaged",
        fix="verify the bundle with glpn-verify, or export it again",
    )


def _read(content: mmap.mmap) -> tuple[list[_Value], list[_Value], dict[str, str]]:
    """Inputs that are no weights, outputs and metadata, by the field numbers of onnx.proto."""
    inputs: list[_Value] = []
    outputs: list[_Value] = []
    tensors: list[tuple[int, int]] = []
    for number, start, end in fields(content, 0, len(content)):
        if number != 7:  # graph
            continue
        for part, a, b in fields(content, start, end):
            if part in (11, 12):
                (inputs if part == 11 else outputs).append(_value(content, a, b))
            elif part == 5:
                tensors.append((a, b))
    weights: set[str] = set()
    for a, b in tensors if len(inputs) > 1 else ():  # before IR version 4 weights were inputs too
        weights.update(content[c:d].decode() for n, c, d in fields(content, a, b) if n == 8)
    return [value for value in inputs if value[0] not in weights], outputs, _metadata(content)


def _metadata(content: mmap.mmap | bytes) -> dict[str, str]:
    about: dict[str, str] = {}
    for number, start, end in fields(content, 0, len(content)):
        if number == 14:  # metadata_props
            entry = {n: content[a:b].decode() for n, a, b in fields(content, start, end) if n in (1, 2)}
            about[entry.get(1, "")] = entry.get(2, "")
    return about


def _value(content: mmap.mmap, start: int, end: int) -> _Value:
    """A ValueInfoProto: name, element type (0 for what is no tensor) and shape."""
    name, kind = "", 0
    shape: list[Side] = []
    for number, a, b in fields(content, start, end):
        if number == 1:
            name = content[a:b].decode()
        for tensor, c, d in fields(content, a, b) if number == 2 else ():
            if tensor != 1:
                continue
            kind = integers(content, c, d).get(1, 0)
            dims = [span for n, e, f in fields(content, c, d) if n == 2 for span in fields(content, e, f)]
            shape = [_side(content, e, f) for n, e, f in dims if n == 1]
    return name, kind, shape


def _side(content: mmap.mmap, start: int, end: int) -> Side:
    fixed = integers(content, start, end).get(1)
    free = [content[a:b].decode() for n, a, b in fields(content, start, end) if n == 2]
    return fixed if fixed is not None else free[-1] if free else None
