"""What is measured: one case is one backend, artefact, precision, shape and batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from glpn_deploy.bundle.engine_profile import Profile, Shape, choose_profile
from glpn_deploy.options import Device
from glpn_deploy.runtimes.options import Compile, Mode, RunPrecision

MADE_PEERS = {
    "optimum": "optimum.exporters.onnx",
    "openvino-optimum": "openvino",
    "nncf": "nncf",
    "ort-static": "onnxruntime.quantization",
    "modelopt": "modelopt.onnx.quantization",
}
"""Peers that make a file, which runs here like our own, and the module each needs."""
PEERS = {"hf-eager": "transformers", "hf-compile": "transformers", **MADE_PEERS}
"""Rows that other projects give, and the module each needs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """Another way to run a backend, which is a row where it is named.

    Attributes:
        of: The backend.
        compile: `torch.compile`'s mode.
        graphs: Whether CUDA graphs are used, where the backend has them.
    """

    of: str
    compile: Compile = "no"
    graphs: bool = True


VARIANTS = {
    "torch-compile": Variant(of="torch", compile="max-autotune"),
    "tensorrt-nograph": Variant(of="tensorrt", graphs=False),
}
_COMPILES = ("torch-compile", "hf-compile")
_LOAD_LIMIT_S, _COMPILE_LIMIT_S = 300.0, 1800.0  # max-autotune tries hundreds of kernels
CALIBRATION = "calibration"
"""The backend name of the matrix product that runs in every round beside the cases."""


@dataclasses.dataclass(frozen=True)
class CaseId:
    """Which case, or cases, something is said of: what is None is not narrowed down.

    Attributes:
        backend: A case's title.
        precision: Of the computation.
        shape: Batch, and the image's height and width [px].
    """

    backend: str | None = None
    precision: str | None = None
    shape: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        """``onnxruntime fp32 1x480x640``."""
        shape = None if self.shape is None else "x".join(map(str, self.shape))
        return " ".join(part for part in (self.backend, self.precision, shape) if part)

    @property
    def runner(self) -> CaseId:
        """Backend and precision: what stays the same over shapes."""
        return CaseId(self.backend, self.precision)

    def covers(self, other: CaseId) -> bool:
        """Whether what is said of this is said of the other too."""
        pairs = (
            (self.backend, other.backend),
            (self.precision, other.precision),
            (self.shape, other.shape),
        )
        return all(mine is None or mine == theirs for mine, theirs in pairs)


def parse_runner(text: str) -> CaseId:
    """``torch``, ``torch:fp32`` or ``torch fp32``, as users write it."""
    backend, _, precision = text.replace(" ", ":").partition(":")
    return CaseId(backend, precision or None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure, complete enough for a fresh process to load it.

    Attributes:
        backend: A registry name, one of `VARIANTS`, a peer's, or `CALIBRATION`.
        precision: Of the computation.
        batch: Images a run.
        height: Height of the image [px]; the network's is this stretched down to its multiple.
        width: Width [px].
        path: The ``.onnx`` file, checkpoint or ``.engine`` file, where the backend takes one.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads within one operator; None leaves the backend's default.
        mode: As `RuntimeOptions.mode`.
        images: Files of this size, which runs take in turns.
        processor: The image processor's settings.
        max_depth: The network's scale [m].
        delay_ms: Null backend only: a planted delay [ms], for tests of the statistics.
        label: What it is called where the backend's name is not enough.
        strict: Whether the precision was asked for by name, so that computing in another is a failure.
    """

    backend: str
    precision: RunPrecision
    batch: int
    height: int
    width: int
    path: str | None = None
    device: Device = "auto"
    threads: int | None = None
    mode: Mode = "auto"
    images: tuple[str, ...] = ()
    processor: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    max_depth: float = 10.0
    delay_ms: float = 0.0
    label: str = ""
    strict: bool = False

    @property
    def id(self) -> CaseId:
        """What its row is known by."""
        return CaseId(self.label or self.backend, self.precision, (self.batch, self.height, self.width))


Part = Literal["latency", "extras", "load", "reference"]
_PART_WORDS: dict[Part, str] = {
    "latency": "",
    "extras": "stages, errors and accuracy",
    "load": "load",
    "reference": "reference",
}


@dataclasses.dataclass(frozen=True)
class NotRun:
    """Something that this machine cannot run, or that failed.

    Attributes:
        case: What it is said of.
        reason: Why, and where possible how to fix it.
        part: What of it was not measured; without its ``latency`` there is no row.
    """

    case: CaseId
    reason: str
    part: Part = "latency"

    @property
    def name(self) -> str:
        """For tables and messages."""
        return ", ".join(filter(None, (str(self.case), _PART_WORDS[self.part])))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runner:
    """Backend, precision and file, before shapes.

    Attributes:
        backend: A registry name, one of `VARIANTS`, or a peer's.
        precision: Of the computation.
        path: The file it runs, or None.
        bytes: Size of what it runs on disk, or None where it has no file.
        probe: Whether nobody has said that the backend gives this precision: it may turn out not to.
        label: As a case's.
        profiles: The shapes that an engine takes; empty for what takes any.
    """

    backend: str
    precision: RunPrecision
    path: Path | None = None
    bytes: int | None = None
    probe: bool = False
    label: str = ""
    profiles: tuple[Profile, ...] = ()

    @property
    def id(self) -> CaseId:
        """As its cases', without a shape."""
        return CaseId(self.label or self.backend, self.precision)

    def takes(self, shape: Shape) -> bool:
        """Whether it takes a batch of this shape (images, height, width of the network's input)."""
        return not self.profiles or choose_profile(self.profiles, shape) is not None


def load_limit_s(case: Case) -> float:
    """Longest wait for a case to load and run once [s]."""
    return _COMPILE_LIMIT_S if case.backend in _COMPILES else _LOAD_LIMIT_S
