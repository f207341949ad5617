"""What is measured: one case is one backend, artefact, precision, shape and batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from glpn_deploy.bundle.engine_profile import Profile, Shape, choose_profile
from glpn_deploy.runtimes.base import Compile, Device, Precision, Rest

PEERS = {"hf-eager": "transformers", "hf-compile": "transformers", "optimum": "optimum.exporters.onnx"}
"""Rows that other projects give, and the module each needs."""


@dataclasses.dataclass(frozen=True)
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
    "torch-compile": Variant("torch", compile="max-autotune"),
    "tensorrt-nograph": Variant("tensorrt", graphs=False),
}
_COMPILES = ("torch-compile", "hf-compile")
_LOAD_LIMIT_S, _COMPILE_LIMIT_S = 300.0, 1800.0  # max-autotune tries hundreds of kernels
CALIBRATION = "calibration"
"""The backend name of the matrix product that runs in every round beside the cases."""


@dataclasses.dataclass(frozen=True)
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
        images: Files of this size, which runs take in turns.
        processor: The image processor's settings.
        max_depth: The network's scale [m].
        delay_ms: Null backend only: a planted delay [ms], for tests of the statistics.
        label: What it is called where the backend's name is not enough.
        rest: What the layers of an INT8 graph that are not quantised compute in (OpenVINO).
    """

    backend: str
    precision: Precision
    batch: int
    height: int
    width: int
    path: str | None = None
    device: Device = "auto"
    threads: int | None = None
    images: tuple[str, ...] = ()
    processor: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    max_depth: float = 10.0
    delay_ms: float = 0.0
    label: str = ""
    rest: Rest = "fp32"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch, height, width)."""
        return self.batch, self.height, self.width

    @property
    def title(self) -> str:
        """The label, or the backend's name where it has none."""
        return self.label or self.backend

    @property
    def runner(self) -> str:
        """Backend and precision: what stays the same over shapes."""
        return f"{self.title} {self.precision}"

    @property
    def key(self) -> str:
        """The row's name: ``onnxruntime fp32 1x480x640``."""
        return f"{self.runner} {self.batch}x{self.height}x{self.width}"

    def to_dict(self) -> dict[str, Any]:
        """For the pipe to the worker."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Case:
        """The other end of the pipe."""
        return cls(**{**values, "images": tuple(values["images"])})


@dataclasses.dataclass(frozen=True)
class NotRun:
    """A case that this machine cannot run, or that failed.

    Attributes:
        name: Its key, or backend and precision where no shape was reached.
        reason: Why, and where possible what would mend it.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
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
    precision: Precision
    path: Path | None
    bytes: int | None = None
    probe: bool = False
    label: str = ""
    profiles: tuple[Profile, ...] = ()

    @property
    def name(self) -> str:
        """As `Case.runner`."""
        return f"{self.label or self.backend} {self.precision}"

    def takes(self, shape: Shape) -> bool:
        """Whether it takes a batch of this shape (images, height, width of the network's input)."""
        return not self.profiles or choose_profile(self.profiles, shape) is not None


def load_limit_s(case: Case) -> float:
    """Longest wait for a case to load and run once [s]."""
    return _COMPILE_LIMIT_S if case.backend in _COMPILES else _LOAD_LIMIT_S
