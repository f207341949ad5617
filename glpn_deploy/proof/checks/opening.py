"""Opening a typed graph on this machine's CPU so that its types' rounding and overflow show."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, first_line
from glpn_deploy.exporters.graph.emulate import emulate
from glpn_deploy.exporters.graph.graph_edit import FP8_TYPES
from glpn_deploy.exporters.graph.half_numbers import HALF_TYPES
from glpn_deploy.precisions import Precision
from glpn_deploy.proof.artefact_runs import ArtefactRun
from glpn_deploy.runtimes.base import Runtime
from glpn_deploy.runtimes.onnx_file.header import input_spec
from glpn_deploy.runtimes.ort_session import open_session


class SessionRuntime(Runtime):
    """A session opened with other settings than deployment's, of a graph that takes FP32 or bytes."""

    backend, device = "onnxruntime", "cpu"

    def __init__(self, session: ort.InferenceSession, precision: Precision = "fp32") -> None:
        self.precision, self._session = precision, session
        (given,) = session.get_inputs()
        self._input, self.spec = given.name, input_spec(given.shape, bytes_in=given.type == "tensor(uint8)")

    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        try:
            depth = self._session.run(None, {self._input: pixel_values})
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise BackendError(
                f"ONNX Runtime failed on a batch of shape {pixel_values.shape} ({first_line(error)})"
            ) from error
        result: NDArray[np.float32] = np.asarray(depth[0], np.float32)
        return result

    def _free(self) -> None:
        del self._session


def open_typed(graph: Path, precision: Precision, work: Path, threads: int | None = None) -> ArtefactRun:
    """Opens a graph so that its types' rounding and overflow show; the one place for it.

    Graphs with 16-bit types are run through `emulate`: ONNX Runtime's CPU computes chains of FP16 nodes in
    FP32 and so hides their rounding and their overflow, and has no BF16 convolution at all. Their Q/DQ pairs
    are computed as they stand then. FP8 graphs run at the basic optimization level, beyond which they do not
    load. A graph of FP32 and INT8 alone is run as it is deployed: with the integer kernels ONNX Runtime
    makes of it where it is for CPUs.

    Args:
        work: A folder for the emulation, which is left there.
    """
    types = _element_types(onnx.load(str(graph), load_external_data=False))
    half = next((name for name, kind in reversed(HALF_TYPES.items()) if kind in types), None)
    path = graph if half is None else emulate(graph, work / f"emulated-{graph.name}")
    plain = half is not None or not types.isdisjoint(FP8_TYPES)
    runtime = SessionRuntime(open_session(path, threads=threads, as_typed=plain), precision)
    return ArtefactRun(runtime, path, "native" if half is None else f"emulated {half}", plain_qdq=plain)


@contextlib.contextmanager
def opened(graph: Path, precision: Precision = "fp32") -> Iterator[Runtime]:
    """A graph opened by `open_typed`; what that takes is put into the graph's folder and removed again."""
    with tempfile.TemporaryDirectory(dir=graph.parent) as work:
        run = open_typed(graph, precision, Path(work))
        with run.runtime as runtime:
            yield runtime


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
