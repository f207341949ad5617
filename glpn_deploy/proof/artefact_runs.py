"""How an artefact is run where it stands: natively, emulated, or not at all, and which of these it was."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.base import Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.external_data import check_external_data
from glpn_deploy.runtimes.registry import load_runtime

_INSTALL_ONNX = "pip install onnx"


@dataclasses.dataclass(frozen=True)
class NotRun:
    """An artefact, or a part of its check, that this machine cannot do.

    Attributes:
        file: The artefact.
        precision: Its precision.
        reason: Why not, and where possible what would mend it.
    """

    file: str
    precision: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ArtefactRun:
    """A loaded artefact.

    Attributes:
        runtime: Runs it.
        path: The graph that is run: the artefact, or its emulation.
        how: ``native``, ``emulated fp16`` or ``emulated bf16``.
        caution: What the run cannot show, or nothing.
        plain_qdq: Whether Q/DQ pairs are computed as they stand, at the basic optimisation level.
    """

    runtime: Runtime
    path: Path
    how: str
    caution: str = ""
    plain_qdq: bool = False


def open_artefact(
    path: Path, precision: Precision, options: RuntimeOptions, device: str, work: Path
) -> ArtefactRun | str:
    """Loads an artefact of a lower precision so that its rounding and its overflow show.

    On a CPU, graphs with 16-bit types run through `glpn_deploy.exporters.graph.emulate`: ONNX Runtime's CPU
    puts casts around FP16 nodes and computes chains of them in FP32, which hides overflow, and it has no BF16
    convolution at all. FP8 graphs run at the basic optimisation level, beyond which they do not load. Both
    need onnx. A graph of FP32 and INT8 alone is run natively, with the integer kernels it is deployed with.

    Args:
        path: The ``.onnx`` file, its digest checked.
        precision: The artefact's.
        options: Where to run it.
        device: What the FP32 artefact runs on here (``cpu``, ``cuda:0``).
        work: A folder for the emulation, which lives as long as the run.

    Returns:
        The run, or why this machine cannot run the artefact.

    Raises:
        BundleError: The artefact cannot be loaded for another reason.
    """
    has_onnx = importlib.util.find_spec("onnx") is not None
    if device != "cpu":
        run = _native(path, precision, options)
        if isinstance(run, ArtefactRun) or not has_onnx:
            return run
    if has_onnx:
        return _judged(path, precision, options, work)
    if precision in ("bf16", "fp8"):
        return (
            f"ONNX Runtime's CPU has no {precision} kernels, and emulating them needs onnx: {_INSTALL_ONNX}"
        )
    run = _native(path, precision, options)
    if isinstance(run, ArtefactRun) and precision == "fp16":
        caution = (
            "ONNX Runtime's CPU computes FP16 nodes in FP32 and so hides their overflow; "
            f"to emulate them: {_INSTALL_ONNX}"
        )
        return dataclasses.replace(run, caution=caution)
    return run


def _native(path: Path, precision: Precision, options: RuntimeOptions) -> ArtefactRun | str:
    """The run, or why the backend has no kernels for it."""
    try:
        runtime = load_runtime("onnxruntime", path, dataclasses.replace(options, precision=precision))
    except BundleError as error:
        if type(error.__cause__).__name__ != "NotImplemented":  # onnxruntime's name for a missing kernel
            raise
        return error.got
    return ArtefactRun(runtime, path, "native")


def _judged(path: Path, precision: Precision, options: RuntimeOptions, work: Path) -> ArtefactRun:
    from glpn_deploy.proof.checks.images import open_typed

    check_external_data(path)
    opened = open_typed(path, work, options.threads)
    how = f"emulated {opened.emulated}" if opened.emulated else "native"
    return ArtefactRun(
        _SessionRuntime(opened.session, precision), opened.path, how, plain_qdq=opened.plain_qdq
    )


class _SessionRuntime(Runtime):
    """A session opened with other settings than deployment's."""

    backend, device = "onnxruntime", "cpu"

    def __init__(self, session: Any, precision: Precision) -> None:
        from glpn_deploy.runtimes.rt_onnxruntime import input_spec

        self.precision, self._session = precision, session
        (given,) = session.get_inputs()
        self._input, self.spec = given.name, input_spec(given.shape)

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            depth = self._session.run(None, {self._input: pixel_values})
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise BackendError(
                f"ONNX Runtime failed on a batch of shape {pixel_values.shape} ({str(error)[:200]})"
            ) from error
        result: NDArray[np.float32] = np.asarray(depth[0], np.float32)
        return result

    def _free(self) -> None:
        del self._session
