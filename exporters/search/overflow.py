"""Which nodes touch values that FP16 cannot hold, found by one FP32 run over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from glpn_deploy import progress
from glpn_deploy.errors import BackendError
from glpn_deploy.exporters.graph.graph_edit import load_graph, save_graph, tensor_types
from glpn_deploy.images.processing import GLPNImageProcessor
from glpn_deploy.runtimes.ort_session import open_session

FP16_MAX = 65504.0
HEADROOM = 4
"""Magnitudes of a quarter of FP16's largest count as overflowing: other scenes reach further than the
images looked at, and fused kernels keep sums of a few such values in FP16 (the tanh form of GELU a cube)."""

_MAX, _MIN = "/peak_max", "/peak_min"


def find_peaks(
    source: Path, images: Sequence[NDArray[np.uint8]], processor: GLPNImageProcessor, work: Path
) -> dict[str, float]:
    """Largest magnitude of every inner tensor over the images.

    The graph reduces each tensor to two numbers itself, so that no inner tensor has to be kept.

    Args:
        work: A folder for the graph with these outputs, which is removed again.

    Returns:
        Float tensor's name to max |x|.
    """
    model = load_graph(source)
    types = tensor_types(model)
    tensors = [
        name for node in model.graph.node for name in node.output if types.get(name) == TensorProto.FLOAT
    ]
    for name in tensors:
        for kind, suffix in (("ReduceMax", _MAX), ("ReduceMin", _MIN)):
            model.graph.node.append(helper.make_node(kind, [name], [name + suffix], keepdims=0))
    del model.graph.output[:]  # the two reductions of what was the output are there
    outputs = [name + suffix for name in tensors for suffix in (_MAX, _MIN)]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in outputs)
    probe = work / "peaks.onnx"
    try:
        save_graph(model, probe)
        session = open_session(probe)
    finally:
        for path in (probe, probe.with_name(f"{probe.name}.data")):
            path.unlink(missing_ok=True)
    largest = np.zeros(len(outputs))
    with progress.step("activation ranges", len(images)) as step:
        for image in images:
            pixel_values = processor.prepare(image)[None]
            try:
                values = session.run(outputs, {session.get_inputs()[0].name: pixel_values})
            except Exception as error:  # onnxruntime raises a class of its own for every status code
                raise BackendError(f"ONNX Runtime failed on an image of shape {image.shape}") from error
            largest = np.maximum(largest, np.abs(np.array([float(value) for value in values])))
            step.advance()
        peaks = np.maximum(largest[0::2], largest[1::2]).tolist()
        step.finish(f"up to {max(peaks, default=0):.3g} in {len(tensors)} tensors")
    return dict(zip(tensors, peaks, strict=True))


def overflowing_nodes(model: onnx.ModelProto, peaks: Mapping[str, float]) -> frozenset[str]:
    """Names of the nodes that make or read a tensor whose peak comes near FP16's limit.

    Readers are among them because a cast in front of them would overflow in their place. Peaks that are
    NaN count as overflowing.
    """
    high = {name for name, peak in peaks.items() if not peak * HEADROOM < FP16_MAX}
    return frozenset(node.name for node in model.graph.node if high & {*node.input, *node.output})
