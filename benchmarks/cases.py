"""What is measured: one case is one backend, artefact, precision, shape and batch."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.bundle import Bundle
from glpn_deploy.errors import GlpnError, InputError
from glpn_deploy.runtimes.base import PRECISIONS, Device, Precision
from glpn_deploy.runtimes.registry import BACKENDS, Backend

PEERS = {"hf-eager": "transformers", "optimum": "optimum.exporters.onnx"}
"""Rows that other projects give, and the module each needs."""
_PEER_INSTALL = {
    "hf-eager": "pip install transformers",
    "optimum": 'pip install optimum-onnx "transformers<4.58"',
}
CALIBRATION = "calibration"
"""The backend name of the matrix product that runs in every round beside the cases."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure, complete enough for a fresh process to load it.

    Attributes:
        backend: A registry name, a peer's, or `CALIBRATION`.
        precision: Of the computation.
        batch: Images a run.
        height: Height of the image [px]; the network's is this stretched down to its multiple.
        width: Width [px].
        path: The ``.onnx`` file or checkpoint, where the backend takes one.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads within one operator; None leaves the backend's default.
        images: Files of this size, which runs take in turns.
        processor: The image processor's settings.
        max_depth: The network's scale [m].
        delay_ms: Null backend only: a planted delay [ms], for tests of the statistics.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch, height, width)."""
        return self.batch, self.height, self.width

    @property
    def runner(self) -> str:
        """Backend and precision: what stays the same over shapes."""
        return f"{self.backend} {self.precision}"

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
        backend: A registry name or a peer's.
        precision: Of the computation.
        path: The file it runs, or None.
        bytes: Size of what it runs on disk, or None where it has no file.
        probe: Whether nobody has said that the backend gives this precision: it may turn out not to.
    """

    backend: str
    precision: Precision
    path: Path | None
    bytes: int | None = None
    probe: bool = False

    @property
    def name(self) -> str:
        """As `Case.runner`."""
        return f"{self.backend} {self.precision}"


def plan_runners(
    bundle: Bundle,
    checkpoint: Path | None,
    backends: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    peers: Sequence[str] = (),
) -> tuple[list[Runner], list[NotRun]]:
    """Every backend and artefact that can be tried here.

    A backend that takes ``.onnx`` files gets every artefact, and the FP32 one again for BF16 where the
    bundle has no BF16 file: OpenVINO computes in BF16 from it. One that takes checkpoints gets FP32 and BF16
    (FP16 where it is asked for). The null backend measures nothing and runs only where it is named.

    Args:
        bundle: The opened bundle; digests are checked here.
        checkpoint: What it was exported from, or None where that is not known.
        backends: Names; None takes all but null.
        precisions: Names; None takes all.
        peers: Names of `PEERS`.

    Returns:
        What to try, and what cannot be tried, with reasons.

    Raises:
        InputError: A name is none.
    """
    for name in backends or ():
        if name not in BACKENDS:
            raise InputError(f"backend {name!r}", expected=f"some of {', '.join(BACKENDS)}")
    for precision in precisions or ():
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}", expected=f"some of {', '.join(PRECISIONS)}")
    runners: list[Runner] = []
    not_run: list[NotRun] = []
    for backend in BACKENDS.values():
        if backend.name not in backends if backends is not None else backend.runs == "nothing":
            continue
        install = backend.missing()
        if install is not None:
            not_run.append(NotRun(backend.name, f"{backend.package} is not installed; {install}"))
        elif backend.runs == "nothing":
            runners.append(Runner(backend.name, "fp32", None))
        elif backend.runs == "checkpoint":
            _from_checkpoint(backend, checkpoint, precisions, runners, not_run)
        else:
            _from_bundle(backend, bundle, precisions, runners, not_run)
    for name in peers:
        _peer(name, checkpoint, runners, not_run)
    return runners, not_run


def _from_checkpoint(
    backend: Backend,
    checkpoint: Path | None,
    precisions: Sequence[Precision] | None,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    if checkpoint is None:
        reason = "it runs checkpoints, and the bundle's is not on this machine; pass --reference CHECKPOINT"
        not_run.append(NotRun(backend.name, reason))
        return
    size = disk_bytes(checkpoint)
    for precision in ("fp32", "bf16") if precisions is None else precisions:
        if precision in ("fp32", "fp16", "bf16"):
            runners.append(Runner(backend.name, precision, checkpoint, size))


def _from_bundle(
    backend: Backend,
    bundle: Bundle,
    precisions: Sequence[Precision] | None,
    runners: list[Runner],
    not_run: list[NotRun],
) -> None:
    have: dict[str, Path] = {}
    for artefact in bundle.manifest.artefacts:
        if precisions is not None and artefact.precision not in (*precisions, "fp32"):
            continue
        try:
            path = bundle.artefact_path(artefact)
        except GlpnError as error:
            not_run.append(NotRun(f"{backend.name} {artefact.precision}", str(error)))
            continue
        have[artefact.precision] = path
        if precisions is None or artefact.precision in precisions:
            size = path.stat().st_size + sum((bundle.folder / name).stat().st_size for name in artefact.data)
            precision = next(p for p in PRECISIONS if p == artefact.precision)
            runners.append(Runner(backend.name, precision, path, size))
    for precision in ("bf16",) if precisions is None else precisions:
        if precision not in have and "fp32" in have:
            size = have["fp32"].stat().st_size
            runners.append(Runner(backend.name, precision, have["fp32"], size, probe=True))


def _peer(name: str, checkpoint: Path | None, runners: list[Runner], not_run: list[NotRun]) -> None:
    if name not in PEERS:
        raise InputError(f"peer {name!r}", expected=f"one of {', '.join(PEERS)}")
    try:
        found = importlib.util.find_spec(PEERS[name]) is not None
    except ModuleNotFoundError:  # the parent package is missing
        found = False
    if not found:
        not_run.append(NotRun(name, f"{PEERS[name]} is not installed; {_PEER_INSTALL[name]}"))
    elif checkpoint is None or not checkpoint.is_dir():
        not_run.append(NotRun(name, "it needs the checkpoint's folder; pass --reference CHECKPOINT"))
    else:
        runners.append(Runner(name, "fp32", checkpoint, disk_bytes(checkpoint)))


def disk_bytes(path: Path) -> int:
    """Size of a file, or of a checkpoint folder's weights [bytes]."""
    if path.is_file():
        return path.stat().st_size
    weights = [p for p in path.iterdir() if p.suffix in (".safetensors", ".bin") and p.is_file()]
    return sum(p.stat().st_size for p in weights)
