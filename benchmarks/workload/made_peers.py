"""Peers that are files: made by other software in the Python that has it, then run here like our own.

The same OpenVINO and ONNX Runtime run every row, whichever versions the other software needs.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from glpn_deploy import progress
from glpn_deploy.benchmarks.workload import make_peer
from glpn_deploy.benchmarks.workload.cases import MADE_PEERS, PEERS, CaseId, NotRun
from glpn_deploy.benchmarks.workload.plan import is_installed
from glpn_deploy.errors import BackendError
from glpn_deploy.images.loading import load_image
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.onnx_file.foreign import find_onnx

_INSTALL = {
    "optimum": 'pip install optimum-onnx "transformers<4.58"',
    "openvino-optimum": "pip install openvino",
    "nncf": "pip install nncf openvino",
    "ort-static": "pip install onnxruntime onnx",
    "modelopt": 'pip install "nvidia-modelopt[onnx]"',
}
_OPENVINO = ("openvino-optimum", "nncf")
_LIMIT_S = 3600.0  # ranges of a large network on a busy machine


@dataclasses.dataclass(frozen=True)
class Making:
    """What files are made from.

    Attributes:
        checkpoint: A folder in HF's format; None where there is none.
        images: Cut to one size; ranges are found on them.
        processor: Turns them into the network's input.
        pythons: Other Pythons by peer.
        folder: Where files are put.
    """

    checkpoint: Path | None
    images: Sequence[str]
    processor: GLPNImageProcessor
    pythons: Mapping[str, str]
    folder: Path


def make_peers(peers: Sequence[str], making: Making) -> tuple[list[str], list[NotRun]]:
    """Those of `MADE_PEERS` as ``NAME=FILE``, and those that could not be made, with reasons.

    All but ``optimum`` start from Optimum's export: the one given as ``optimum=PLACE``, or one made here.
    """
    made: list[str] = []
    not_run: list[NotRun] = []
    sources: dict[str, Path | BackendError] = {}
    for peer in peers:
        given = find_onnx(peer.removeprefix("optimum=")) if peer.startswith("optimum=") else None
        if given is not None:
            sources["optimum"] = given
    for name in (peer for peer in peers if peer in MADE_PEERS):
        try:
            made.append(f"{name}={_made(name, making, sources)}")
        except BackendError as error:
            not_run.append(NotRun(CaseId(name), str(error)))
    return made, not_run


def _made(name: str, making: Making, done: dict[str, Path | BackendError]) -> Path:
    """A peer's file, made once.

    Raises:
        BackendError: Its packages are missing, it has nothing to start from, or it failed.
    """
    if name not in done:
        try:
            done[name] = _make(name, making, done)
        except BackendError as error:
            done[name] = error
    found = done[name]
    if isinstance(found, BackendError):
        raise found
    return found


def _make(name: str, making: Making, done: dict[str, Path | BackendError]) -> Path:
    python = _python(name, making.pythons)
    if name != "optimum":
        source = _made("optimum", making, done)
    elif making.checkpoint is not None and making.checkpoint.is_dir():
        source = making.checkpoint
    else:
        raise BackendError("it needs the checkpoint's folder; pass --reference CHECKPOINT")
    folder = making.folder / name
    folder.mkdir(parents=True)
    target = folder / ("model.xml" if name in _OPENVINO else "model.onnx")
    images = folder / "images.npy"
    np.save(images, np.stack([making.processor.prepare(load_image(path)) for path in making.images]))
    command = [python, make_peer.__file__, name, str(source), str(images), str(target)]
    with progress.step(f"make {name}"):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackendError(f"{PEERS[name]} could not be run ({error})") from error
    images.unlink()
    if ran.returncode or not target.is_file():
        last = (ran.stderr.strip() or "no message").splitlines()[-1][:200]
        raise BackendError(f"{PEERS[name]} failed ({last})")
    return target


def _python(name: str, pythons: Mapping[str, str]) -> str:
    """The Python that makes a peer; what Optimum is only needed for by others may come from theirs."""
    if name in pythons:
        return pythons[name]
    if is_installed(PEERS[name]):
        return sys.executable
    others = [python for other, python in pythons.items() if other in MADE_PEERS]
    if name == "optimum" and others:
        return others[0]
    way = f"{_INSTALL[name]}, or pass --python {name}=PYTHON of an environment that has it"
    raise BackendError(f"{PEERS[name]} is not installed; {way}")
