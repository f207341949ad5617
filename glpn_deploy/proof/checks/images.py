"""How far a candidate graph's depth is from its FP32 original's, on images, run on this machine's CPU."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from glpn_deploy import progress
from glpn_deploy.depth.error_stats import ErrorStats, error_stats
from glpn_deploy.errors import BackendError, ExportError, InputError
from glpn_deploy.exporters.graph.emulate import emulate
from glpn_deploy.exporters.graph.half_numbers import HALF_TYPES
from glpn_deploy.images.processing import GLPNImageProcessor

_FP8 = {
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
}


class Judge:
    """Runs the FP32 graph once over the images and holds candidates against its depth.

    Candidates with 16-bit types are judged through `emulate`: ONNX Runtime's CPU computes chains of FP16
    nodes in FP32 and so hides their rounding and their overflow, and has no BF16 convolution at all. Their
    Q/DQ pairs are computed as they stand then. A graph of FP32 and Q/DQ alone is run as it is deployed,
    with the integer kernels ONNX Runtime makes of it.

    Args:
        source: The FP32 graph.
        images: ``(H, W, 3)`` uint8 images, of any sizes; they go through ``processor``.
        processor: The bundle's image processor.
        threads: Threads within one operator; None leaves ONNX Runtime's default.

    Raises:
        InputError: There are no images.
        ExportError: The FP32 graph's own depth is not finite.
        BackendError: ONNX Runtime cannot run the graph.
    """

    def __init__(
        self,
        source: Path,
        images: Sequence[NDArray[np.uint8]],
        processor: GLPNImageProcessor,
        *,
        threads: int | None = None,
    ) -> None:
        if not images:
            raise InputError(
                "there are no images to judge by", expected="at least one", fix="name a folder of photographs"
            )
        self._images, self._processor, self._threads = images, processor, threads
        with progress.step("fp32 reference", len(images)) as step:
            session = open_session(source, threads)
            depths = []
            for image in images:
                depths.append(run_image(session, processor, image).ravel())
                step.advance()
            step.finish(f"{len(images)} images")
        self._reference = np.concatenate(depths)
        bad = self._reference.size - int(np.count_nonzero(np.isfinite(self._reference)))
        if bad:
            raise ExportError(
                f"the FP32 graph gives {bad} of {self._reference.size} pixels that are not finite",
                expected="a network that works in FP32",
                fix="look at the checkpoint: no precision can mend it",
            )

    def errors(
        self,
        candidate: Path,
        work: Path,
        title: str = "judge",
    ) -> ErrorStats:
        """Errors against the FP32 graph over all pixels of all images, so that large images weigh more.

        Args:
            candidate: The graph to judge.
            work: A folder for the emulated graph, which is removed again.
            title: The step's title.

        Raises:
            BackendError: ONNX Runtime cannot run the candidate.
        """
        session = open_judged(candidate, work, self._threads)
        return self.errors_of(session, title)

    def errors_of(
        self,
        session: ort.InferenceSession,
        title: str = "judge",
    ) -> ErrorStats:
        """The same for a graph that is open already, and computes what its types say."""
        with progress.step(title, len(self._images)) as step:
            depths = []
            for image in self._images:
                depths.append(run_image(session, self._processor, image).ravel())
                step.advance()
            errors = error_stats(np.concatenate(depths), self._reference)
            step.finish(describe_errors(errors))
        return errors


def run_image(
    session: ort.InferenceSession, processor: GLPNImageProcessor, image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The depth (H32, W32) [m] of one ``(H, W, 3)`` uint8 image.

    Raises:
        BackendError: ONNX Runtime cannot run the graph.
    """
    taken = session.get_inputs()[0]
    kind = np.float16 if taken.type == "tensor(float16)" else np.float32
    pixel_values = processor.prepare(image)[None].astype(kind, copy=False)
    try:
        depth = session.run(None, {taken.name: pixel_values})[0]
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        raise BackendError(
            f"ONNX Runtime {ort.__version__} failed on an image of shape {image.shape} ({_reason(error)})"
        ) from error
    result: NDArray[np.float32] = np.asarray(depth[0], np.float32)
    return result


def describe_errors(errors: ErrorStats) -> str:
    """One clause: how far the depth moved."""
    if errors.non_finite:
        return f"{errors.non_finite} pixels are NaN or infinite"
    return f"AbsRel {errors.abs_rel:.2g}, max {errors.max_abs_m:.2g} m, p99 {errors.p99_abs_m:.2g} m"


@dataclasses.dataclass(frozen=True)
class OpenedGraph:
    """A typed graph as it was opened on this machine's CPU.

    Attributes:
        session: Computes what the graph's types say.
        path: What was opened: the graph, or its emulation.
        emulated: The 16-bit type that is emulated (``fp16``, ``bf16``); empty where there is none.
        plain_qdq: Whether Q/DQ pairs are computed as they stand, at the basic optimisation level.
    """

    session: ort.InferenceSession
    path: Path
    emulated: str
    plain_qdq: bool


def open_typed(candidate: Path, work: Path, threads: int | None = None) -> OpenedGraph:
    """Opens a graph so that its types' rounding and overflow show (`Judge` says why); the one place for it.

    Args:
        candidate: A typed graph.
        work: A folder for the emulation, which is left there.
        threads: As in `open_session`.

    Raises:
        ExportError: The candidate has 16-bit types and cannot be emulated.
        BackendError: ONNX Runtime cannot load it.
    """
    types = _element_types(onnx.load(str(candidate), load_external_data=False))
    half = next((name for name, kind in reversed(HALF_TYPES.items()) if kind in types), "")
    path = emulate(candidate, work / f"emulated-{candidate.name}") if half else candidate
    plain = bool(half or types & _FP8)
    return OpenedGraph(open_session(path, threads, fuse=not plain), path, half, plain)


def open_judged(candidate: Path, work: Path, threads: int | None = None) -> ort.InferenceSession:
    """The session of `open_typed`; ``work`` is left as it was."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        return open_typed(candidate, Path(folder), threads).session


def open_session(
    path: Path, threads: int | None = None, *, fuse: bool = True, optimise: bool = True
) -> ort.InferenceSession:
    """Opens a graph on the CPU.

    Args:
        path: The graph.
        threads: Threads within one operator; None leaves ONNX Runtime's default.
        fuse: Let Q/DQ pairs become integer kernels, and the graph be optimised beyond the basic level.
            FP8 graphs only run at the basic one.
        optimise: False where the session is for a few small images, so that its making counts most.

    Raises:
        BackendError: ONNX Runtime cannot load it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fuse else levels.ORT_ENABLE_BASIC
    if not optimise:
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    if not fuse:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise BackendError(
            f"ONNX Runtime {ort.__version__} cannot load {path} ({_reason(error)})",
            fix="try another --opset, or another version of onnxruntime",
        ) from error


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph computes in FP16 or BF16 anywhere, and has to be emulated."""
    return not _element_types(model).isdisjoint(HALF_TYPES.values())


def _element_types(model: onnx.ModelProto) -> set[int]:
    """ONNX element types of a graph's weights, casts, inputs and outputs."""
    graph = model.graph
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    types |= {
        attribute.i
        for node in graph.node
        for attribute in node.attribute
        if attribute.name in ("to", "output_dtype")
    }
    return types


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
