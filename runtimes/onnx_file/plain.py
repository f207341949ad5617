"""Whether an ONNX file is a plain network: tensor operators one after the other, of sizes within reason.

Backends trust the files they parse. Of strangers' files were seen: a ``Conv`` with one input, which ends the
process in OpenVINO (signal 11), opset 2^31, which stalls it, a ``Loop`` of 10^9 turns, a ``ConstantOfShape``
of 3 * 10^9 values and 2^26 functions in one another, which fill the memory. All that is refused here, before
a backend sees the file. What is left to a plain network is to be large: sizes that it computes as it runs are
not looked at.
"""

from __future__ import annotations

import dataclasses
import math
import mmap

import numpy as np

from glpn_deploy.runtimes.onnx_file.operators import OPERATORS
from glpn_deploy.runtimes.onnx_file.protobuf import DamagedError, Field, parse, varints

_OPSETS = (7, 64)  # what backends take begins at 7; onnx 1.23 is at 27
_MOST_FIELDS = 3_000_000  # of all messages; glpn-nyu's file has 35,000, and a million takes a second
_MOST_OUTPUTS = 256
_MOST_AXES = 32
_MOST_SIZE = 1 << 28  # values of a shape that stands in the file: 1 GiB as float32
_MOST_FACTOR = 1 << 14  # times that a constant scale or repeat enlarges a tensor
_MOST_PAD = 1 << 12
_GEOMETRY = {  # attributes that are multiplied or divided by before anything is looked at
    b"strides": (1, 1024),
    b"dilations": (1, 1024),
    b"kernel_shape": (1, 1024),
    b"group": (1, 1 << 16),
    b"pads": (-1024, 1024),
    b"output_padding": (0, 1024),
    b"output_shape": (1, 1 << 16),
    b"blocksize": (1, 256),
    b"num_outputs": (1, _MOST_OUTPUTS),
    b"block_size": (1, 1 << 16),
    b"num_heads": (1, 1 << 16),
}
_OTHER = (-(1 << 31), (1 << 31) - 1)
_ENLARGING = {  # operators whose result is as large as these inputs say
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
_NUMBERS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8"}
_STRING = 8  # TensorProto.DataType

Content = mmap.mmap | bytes


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a plain network is made of.

    Attributes:
        locations: Where its tensors say that their data lies outside the file, in the order of the file.
        types: Element types (TensorProto.DataType) of its tensors of more than one value.
        scale_types: Element types of the scales of its quantizing nodes.
        opset: The version of ONNX's own operators that it uses; 0 where it does not say.
        nodes: "MatMul encoder/0/query" for every node, in order.
    """

    locations: tuple[str, ...]
    operators: frozenset[str]
    types: frozenset[int]
    scale_types: frozenset[int]
    opset: int
    nodes: tuple[str, ...]


class NotPlainError(Exception):
    """The file holds what no plain network does; the text says what, as what follows "it holds"."""


def check_plain(content: Content) -> Contents:
    """Looks through a serialised model, and says what it is made of.

    Raises:
        DamagedError: It is no model.
        NotPlainError: It is no plain network.
    """
    return _Check(content).run()


class _Check:
    def __init__(self, content: Content) -> None:
        self._content = content
        self._left = _MOST_FIELDS
        self._locations: list[str] = []
        self._constants: dict[bytes, tuple[Content, int, int] | list[float]] = {}
        self._enlarging: list[tuple[str, str, list[bytes]]] = []
        self._operators: set[str] = set()
        self._types: set[int] = set()
        self._type_of: dict[bytes, int] = {}
        self._scales: set[bytes] = set()
        self._opset = 0
        self._nodes: list[str] = []

    def run(self) -> Contents:
        for number, kind, start, end in self._fields(self._content, 0, len(self._content)):
            if kind != 2:
                continue
            if number == 7:
                self._graph(start, end)
            elif number == 8:
                self._check_opset(start, end)
            elif number in (20, 25):
                raise NotPlainError("a training graph" if number == 20 else "functions of its own")
        for op, where, inputs in self._enlarging:
            self._check_size(op, where, inputs)
        scales = frozenset(self._type_of[name] for name in self._scales if name in self._type_of)
        return Contents(
            locations=tuple(self._locations),
            operators=frozenset(self._operators),
            types=frozenset(self._types),
            scale_types=scales,
            opset=self._opset,
            nodes=tuple(self._nodes),
        )

    def _fields(self, message: Content, start: int, end: int) -> list[Field]:
        found = parse(message, start, end, self._left)
        if found is None:
            raise NotPlainError(f"more than {_MOST_FIELDS} fields")
        self._left -= len(found)
        return found

    def _check_opset(self, start: int, end: int) -> None:
        domain, version = b"", 0
        for number, kind, a, b in self._fields(self._content, start, end):
            if (number, kind) == (1, 2):
                domain = self._content[a:b]
            elif (number, kind) == (2, 0):
                version = a
        own = domain in (b"", b"ai.onnx")
        least = _OPSETS[0] if own else 0
        if not least <= version <= _OPSETS[1]:
            raise NotPlainError(f"opset {_signed(version)}")
        if own:
            self._opset = version

    def _graph(self, start: int, end: int) -> None:
        for number, kind, a, b in self._fields(self._content, start, end):
            if kind != 2:
                continue
            if number == 1:
                self._node(self._content[a:b])
            elif number == 5:
                self._constants[self._tensor(self._content, a, b)] = (self._content, a, b)
            elif number == 15:
                raise NotPlainError("a sparse tensor")

    def _node(self, node: bytes) -> None:
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        attributes: list[tuple[int, int]] = []
        name = op = domain = b""
        for number, kind, a, b in self._fields(node, 0, len(node)):
            if kind != 2:
                continue
            if number == 1:
                inputs.append(node[a:b])
            elif number == 2:
                outputs.append(node[a:b])
            elif number == 5:
                attributes.append((a, b))
            elif number == 3:
                name = node[a:b]
            elif number == 4:
                op = node[a:b]
            elif number == 7:
                domain = node[a:b]
        kind_of = f"{_text(domain)}.{_text(op)}" if domain else _text(op)
        where = f"a node of type {kind_of} ({_text(name)!r})" if name else f"a node of type {kind_of}"
        if not _text(b"".join((name, *outputs))).isprintable():
            raise NotPlainError(f"{where} with control characters in its names")
        arity = OPERATORS.get(_text(domain), {}).get(_text(op))
        if arity is None:
            raise NotPlainError(where)
        self._operators.add(_text(op))
        self._nodes.append(f"{_text(op)} {_text(name)}".strip())
        if op in (b"QuantizeLinear", b"DequantizeLinear"):
            self._scales.update(inputs[1:2])
        while inputs and not inputs[-1]:
            inputs.pop()
        if not arity[0] <= len(inputs) <= arity[1] or not all(inputs[: arity[0]]):
            raise NotPlainError(f"{where} with {sum(map(bool, inputs))} inputs")
        if not 1 <= len(outputs) <= _MOST_OUTPUTS:
            raise NotPlainError(f"{where} with {len(outputs)} outputs")
        for a, b in attributes:
            constant = self._attribute(node, a, b, where, free=kind_of == "Constant")
            if kind_of == "Constant" and constant is not None:
                self._constants[outputs[0]] = constant
        if kind_of in _ENLARGING:
            self._enlarging.append((kind_of, where, inputs))

    def _attribute(
        self, node: bytes, start: int, end: int, where: str, free: bool
    ) -> tuple[Content, int, int] | list[float] | None:
        """Checks an attribute; gives the numbers or the tensor that it holds, for ``Constant``."""
        name, whole, real = b"", [], []
        tensor: tuple[Content, int, int] | None = None
        for number, kind, a, b in self._fields(node, start, end):
            if number == 1 and kind == 2:
                name = node[a:b]
            elif number in (3, 8) and kind == 0:
                whole.append(a)
            elif number == 8 and kind == 2:
                whole += varints(node, a, b)
            elif (number in (2, 7) and kind == 5) or (number == 7 and kind == 2 and (b - a) % 4 == 0):
                real += np.frombuffer(node[a:b], "<f4").tolist()
            elif number in (5, 10) and kind == 2:
                self._tensor(node, a, b)
                tensor = (node, a, b)
            elif number in (6, 11, 21) and kind == 2:
                raise NotPlainError(f"{where} with a graph in it")
            elif number in (22, 23) and kind == 2:
                raise NotPlainError(f"{where} with a sparse tensor")
        if free:
            return tensor or [*map(_signed, whole), *real]
        low, high = _GEOMETRY.get(name, _OTHER)
        if whole and not low <= min(map(_signed, whole)) <= max(map(_signed, whole)) <= high:
            raise NotPlainError(f"{where} whose {_text(name)} is beyond reason")
        if name == b"scales" and not _product(real) <= _MOST_FACTOR:
            raise NotPlainError(f"{where} whose scales are beyond reason")
        return None

    def _tensor(self, message: Content, start: int, end: int) -> bytes:
        """Checks that a tensor holds the values it speaks of; gives its name."""
        name, room, outside, element = b"", 0, False, 0
        dims: list[int] = []
        for number, kind, a, b in self._fields(message, start, end):
            if number == 1:
                dims += [_signed(a)] if kind == 0 else map(_signed, varints(message, a, min(b, a + 1024)))
            elif number == 8 and kind == 2:
                name = message[a:b]
            elif number == 2 and kind == 0:
                element = a
                if element == _STRING:
                    raise NotPlainError("a tensor of text")
            elif number in (4, 5, 7, 9, 10, 11):
                room += b - a if kind in (1, 2, 5) else 1
            elif number == 13 and kind == 2:
                outside |= self._entry(message, a, b)
        count = math.prod(dims) if len(dims) <= _MOST_AXES else -1
        if not 0 <= count < 1 << 62 or (dims and min(dims) < 0):
            raise NotPlainError("a tensor of a shape beyond reason")
        if count > 4 * room and not outside:  # at least two bits a value
            raise NotPlainError(f"a tensor that is said to hold {count} values and has {room} bytes")
        self._type_of[name] = element
        if count > 1:
            self._types.add(element)
        return name

    def _entry(self, message: Content, start: int, end: int) -> bool:
        """Takes note of a place outside the file; whether the entry names one."""
        entry = {n: message[a:b] for n, kind, a, b in self._fields(message, start, end) if kind == 2}
        if entry.get(1) != b"location":
            return False
        self._locations.append(_text(entry.get(2, b"")))
        return True

    def _check_size(self, op: str, where: str, inputs: list[bytes]) -> None:
        """Refuses a result whose size stands in the file and is beyond reason."""
        values = [self._values(inputs[i], where) for i in _ENLARGING[op] if i < len(inputs)]
        if op == "Range":
            if all(value is not None and len(value) == 1 for value in values):
                first, limit, step = (value[0] for value in values if value is not None)
                if step == 0 or not abs(limit - first) <= _MOST_SIZE * abs(step):
                    raise NotPlainError(f"{where} of more than {_MOST_SIZE} values")
            return
        for value in values:
            if value is None:
                continue
            if op == "Pad":
                large = not sum(map(abs, value)) <= _MOST_PAD
            else:
                whole = op in ("ConstantOfShape", "Expand", "OneHot") or len(values) == 3
                large = not _product(value) <= (_MOST_SIZE if whole else _MOST_FACTOR)
            if large:
                raise NotPlainError(f"{where} whose size is beyond reason")

    def _values(self, name: bytes, where: str) -> list[float] | None:
        """The numbers of a constant; None for what is computed."""
        found = self._constants.get(name)
        if found is None or isinstance(found, list):
            return found
        message, start, end = found
        kind, numbers = 0, []
        for number, wire, a, b in self._fields(message, start, end):
            if number == 2 and wire == 0:
                kind = a
            elif number == 9 and wire == 2:
                if kind not in _NUMBERS or (b - a) % np.dtype(_NUMBERS[kind]).itemsize or b - a > 1024:
                    raise NotPlainError(f"{where} whose size is no list of numbers")
                numbers += np.frombuffer(message[a:b], _NUMBERS[kind]).tolist()
            elif number in (4, 10) and wire in (1, 2, 5):
                width = 4 if number == 4 else 8
                numbers += np.frombuffer(message[a : b - (b - a) % width], f"<f{width}").tolist()
            elif number in (5, 7, 11):
                numbers += [_signed(value) for value in ([a] if wire == 0 else varints(message, a, b))]
            elif number == 13:
                raise NotPlainError(f"{where} whose size lies in another file")
        return numbers


def _product(values: list[float]) -> float:
    """Of magnitudes, those below 1 left out; infinity where one is no number."""
    product = 1.0
    for value in values:
        product *= max(1.0, abs(value)) if math.isfinite(value) else math.inf
    return product


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DamagedError from None
