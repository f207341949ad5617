"""What an engine consists of: kernels by kind, traffic and memory, so that graphs can be compared.

Traffic counts what the kernels read and write, weights aside [bytes]: what a GPU's memory has to move where
nothing stays in a cache. It is a bound on the work, no time; two graphs of one network on one target can be
held against each other by it. In what the Myelin compiler generates, a kernel's name lists its operations
("CastMeanSubMulMean"): `Max-reduce, Sub, Exp` is a softmax outside of a fused attention, `Roun` quantises.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glpn_deploy.bundle.engine_profile import Shape, spell

_BYTES = {1: ("int8", "fp8", "bool", "uint8"), 2: ("half", "fp16", "bf16", "bfloat16"), 8: ("int64",)}
_SIZE = {name: size for size, names in _BYTES.items() for name in names}  # of the others: 4
_NO_KERNEL = re.compile("signal|wait|noop|constant|shape", re.IGNORECASE)
_MOVES = {"Move", "Cast", "Tran", "Resh", "Repl", "Conc", "Slic", "Pad", "Copy"}
_WORDS = re.compile("[A-Z][a-z]+")
HEAVIEST = 10

# The first that fits a kernel: by its name, by the words of a generated name, by TensorRT's kind of layer.
_KINDS: tuple[tuple[str, str, set[str], str], ...] = (
    ("fused attention", r"_gemm_mha|fmha|fused_mha", set(), "attention"),
    ("softmax", r"MaxrSubExp|MaxSubExp", set(), "softmax"),
    ("convolution", "", {"Corr", "Conv"}, "correlation|conv"),
    ("matrix product", "", {"Fc", "Gemm"}, "gemm|matrixmultiply|matmul"),
    ("normalization", r"MeanSubMulMean|AddSqrtDivMul", set(), "normalization"),
    ("resize", "", {"Resi"}, "resize"),
    ("quantization", "", {"Roun"}, "quantize"),
    ("copy or cast", r"reformat", set(), "reformat|shuffle|cast|slice|concat|identity|copy"),
)
KINDS = (*(kind for kind, *_ in _KINDS), "elementwise", "other")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of an engine.

    Attributes:
        kind: One of `KINDS`.
        traffic_bytes: What it reads and writes.
    """

    name: str
    kind: str
    traffic_bytes: int


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One engine.

    Attributes:
        title: What it was built from.
        target: What it was compiled for and with.
        shape: Images, height and width that the traffic is of.
        weights_bytes: What its weights take, or None where it is not told.
        scratch_bytes: What one execution context takes beside them, or None.
    """

    title: str
    target: str
    shape: Shape
    kernels: tuple[Kernel, ...]
    weights_bytes: int | None
    scratch_bytes: int | None
    plan_bytes: int
    layers: dict[str, int]

    @property
    def traffic_bytes(self) -> int:
        """What all kernels read and write."""
        return sum(kernel.traffic_bytes for kernel in self.kernels)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Kernels and their traffic [bytes] by kind; kinds that there are."""
        found = {kind: [k.traffic_bytes for k in self.kernels if k.kind == kind] for kind in KINDS}
        return {kind: (len(traffic), sum(traffic)) for kind, traffic in found.items() if traffic}

    def heaviest(self) -> list[Kernel]:
        """The kernels of most traffic, the heaviest first."""
        return sorted(self.kernels, key=lambda kernel: -kernel.traffic_bytes)[:HEAVIEST]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        kinds = self.by_kind()
        return {
            "title": self.title,
            "target": self.target,
            "shape": spell(self.shape),
            "kernels": len(self.kernels),
            "fused_attention": kinds.get("fused attention", (0, 0))[0],
            "unfused_softmax": kinds.get("softmax", (0, 0))[0],
            "traffic_bytes": self.traffic_bytes,
            "weights_bytes": self.weights_bytes,
            "scratch_bytes": self.scratch_bytes,
            "plan_bytes": self.plan_bytes,
            "layers": self.layers,
            "kinds": {kind: {"kernels": n, "traffic_bytes": size} for kind, (n, size) in kinds.items()},
            "heaviest": [dataclasses.asdict(kernel) for kernel in self.heaviest()],
        }


def kernels_of(layers: Iterable[Mapping[str, Any]]) -> tuple[Kernel, ...]:
    """The kernels among an engine's layers, which have the form of TensorRT's inspector."""
    return tuple(
        Kernel(str(layer.get("Name", "")), _kind(layer), _traffic(layer))
        for layer in layers
        if not _NO_KERNEL.search(str(layer.get("LayerType", "")))
    )


def compare(candidate: Explanation, other: Explanation) -> str:
    """What a graph costs beside another one of the same network, target and shape, in one sentence."""
    ratio = candidate.traffic_bytes / max(other.traffic_bytes, 1)
    told = f"{ratio:.2f} times the traffic, {len(candidate.kernels)} kernels beside {len(other.kernels)}"
    alone, theirs = (one.by_kind().get("softmax", (0, 0))[0] for one in (candidate, other))
    return f"{told}, {alone} attentions not fused beside {theirs}" if alone > theirs else told


def _kind(layer: Mapping[str, Any]) -> str:
    name, tactic = str(layer.get("Name", "")), str(layer.get("TacticName", ""))
    kind = str(layer.get("LayerType", ""))
    generated = name.startswith("__myl_")
    words = set(_WORDS.findall(name.split("_myl", 2)[1])) if generated else set[str]()
    for found, names, any_word, kinds in _KINDS:
        by_name = bool(names) and re.search(names, f"{name} {tactic}" if not generated else name) is not None
        if by_name or words & any_word or re.search(kinds, kind, re.IGNORECASE):
            return found
    if not words:
        return "other"
    return "copy or cast" if words <= _MOVES else "elementwise"


def _traffic(layer: Mapping[str, Any]) -> int:
    tensors: Sequence[Any] = (*(layer.get("Inputs") or ()), *(layer.get("Outputs") or ()))
    return sum(_bytes(tensor) for tensor in tensors if isinstance(tensor, Mapping))


def _bytes(tensor: Mapping[str, Any]) -> int:
    sides = tensor.get("Dimensions")
    if not isinstance(sides, list) or not all(isinstance(n, int) and n >= 0 for n in sides):
        return 0  # not told without a shape
    described = str(tensor.get("Format/Datatype", tensor.get("DataType", ""))).lower()
    size = next((_SIZE[word] for word in re.findall(r"[a-z0-9]+", described) if word in _SIZE), 4)
    return math.prod(sides) * size
