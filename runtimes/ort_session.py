"""The one way to open an ONNX Runtime session: what judges, calibrates and verifies is what is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from glpn_deploy.errors import BackendError, first_line
from glpn_deploy.runtimes.onnx_file.header import read_metadata

CPU = "CPUExecutionProvider"
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
"""The CUDA provider. TF32 rounds FP32 products to 10 bits, which no FP32 tolerance survives. Convolutions are
chosen by cuDNN's heuristics: trying all of them, the default, is done again for every new shape."""
CUDA_FIXED = (CUDA[0], CUDA[1] | {"cudnn_conv_algo_search": "EXHAUSTIVE"})
"""The same for a graph of one shape, where every algorithm is tried once."""


def open_session(
    source: Path | bytes,
    *,
    providers: Sequence[Any] = (CPU,),
    precision: str = "",
    threads: int | None = None,
    as_typed: bool = False,
    optimize: bool = True,
    arena: bool = True,
    spin: bool = True,
    profile: Path | None = None,
) -> ort.InferenceSession:
    """Opens a graph as it is deployed; what differs from that is asked for by name.

    Args:
        source: The ``.onnx`` file, or a serialized graph.
        providers: Execution providers, the wanted one first, as `onnxruntime.InferenceSession` takes them.
        precision: What the graph computes in, where its metadata does not say.
        threads: Threads within one operator; None leaves ONNX Runtime's default.
        as_typed: Fuse nothing, and compute Q/DQ pairs as they stand, so that each type's rounding shows.
        optimize: False for a session that runs few small images, where optimizing takes longer than running.
        arena: False frees memory after each run, for inputs of many sizes.
        spin: False lets threads sleep as soon as they have nothing to do.
        profile: Prefix of the file that ONNX Runtime writes the time of every node to.

    Raises:
        BackendError: ONNX Runtime cannot load the graph, or not on these providers; its own exception is
            the cause.
    """
    about = read_metadata(source)
    on_cpu = providers[0] == CPU
    for_tensorrt = about.get("target") == "tensorrt"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif as_typed or about.get("precision", precision) == "fp8":  # FP8 loads no higher than this on a CPU
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if as_typed or (for_tensorrt and on_cpu):
        # Integer kernels made of TensorRT's pairs saturate on CPUs without VNNI (0.012 instead of 0.004).
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # The step that quantizes biases spoils FP16 ones (AbsRel 0.09), and TensorRT takes no quantized ones.
    without = ["WeightBiasQuantization"] if for_tensorrt else []
    try:
        # No fallback: where a provider cannot be made, Python's binding would print that and take the CPU.
        session = ort.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=list(providers),
            disabled_optimizers=without,
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        name = "the graph" if isinstance(source, bytes) else source
        raise BackendError(
            f"ONNX Runtime {ort.__version__} cannot load {name} ({first_line(error)})",
            fix="try another --opset, or another version of onnxruntime",
        ) from error
    session.disable_fallback()  # it would go on without the provider after a failed run, and print that
    return session
