"""ONNX Runtime on CPU, CUDA and, where it is asked for, TensorRT.

The graph stays dynamic: a session with its free dimensions fixed to 1x480x640 took as long as the dynamic
one (glpn-nyu's architecture, 1.03 times the processor time on an AVX2 core, within the run's noise).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.runtimes.base import Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import OnnxHeader, input_spec, read_header
from glpn_deploy.runtimes.ort_tensorrt import (
    PROVIDER,
    EngineFolder,
    linked_tensorrt,
    load_libraries,
    provider_options,
    start_hint,
)

__all__ = ["OnnxRuntime", "input_spec", "load", "missing_provider_reason"]

_PACKAGE = Path(ort.__file__).parent
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": PROVIDER,
}


def missing_provider_reason(provider: str) -> str | None:
    """Why an execution provider cannot be used here, or None where nothing is known to be missing.

    The driver is asked before ONNX Runtime is, which would load 280 MB of CUDA code and print why not.
    """
    if provider not in ort.get_available_providers():
        return (
            f"this onnxruntime {ort.__version__} was built without {provider} "
            f"(it has {', '.join(ort.get_available_providers())}); "
            'pip uninstall onnxruntime, then pip install "glpn-deploy[gpu]" (the two exclude each other)'
        )
    if provider == _PROVIDERS["cpu"]:
        return None
    try:
        find_device()
    except BackendError as error:
        return str(error).rstrip(".")
    return None


CUDA = (_PROVIDERS["cuda"], {"use_tf32": "0"})
"""The CUDA provider. TF32 rounds FP32 products to 10 bits, which no FP32 tolerance survives."""


def session_settings(
    header: OnnxHeader, precision: Precision, on_cpu: bool, plain: bool = False
) -> tuple[ort.SessionOptions, list[str]]:
    """How a file's session is opened: its options, and the optimisers that it does without.

    Args:
        header: What the file says of itself.
        precision: What it computes in.
        on_cpu: Whether the CPU runs it.
        plain: Nothing is fused, and Q/DQ pairs are computed as they stand.
    """
    about = ort.SessionOptions()
    about.log_severity_level = 3
    if plain or precision == "fp8":  # FP8 loads no further optimised than this on a CPU
        about.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    without = []
    if header.target == "tensorrt":
        # A graph of Q/DQ pairs for TensorRT: the step that quantises biases spoils FP16 ones (AbsRel 0.09
        # on the demo network), and TensorRT takes none that are.
        without.append("WeightBiasQuantization")
    if plain or (header.target == "tensorrt" and on_cpu):
        # Integer kernels made of TensorRT's pairs saturate on CPUs without VNNI (0.012 instead of 0.004).
        # Computed as it stands it is right, and slow.
        about.add_session_config_entry("session.disable_quant_qdq", "1")
    return about, without


class OnnxRuntime(Runtime):
    """One session over one ONNX file.

    With ``provider="tensorrt"`` TensorRT builds an engine of the graph at the first batch (minutes), and
    again for shapes outside ``profile``; with a cache folder the next start finds it. It computes FP32
    products in TF32, which its provider has no option against. Never run on a GPU yet.

    A file whose input is FP16 is given the batch in FP16; depths come back in FP32 in any case.

    Args:
        path: The ``.onnx`` file.
        options: Device, provider, threads, cache and profile; the precision is only reported, where the
            file does not say its own.

    Attributes:
        provider: The execution provider that runs it, as ONNX Runtime calls it.

    Raises:
        BundleError: The file is missing, damaged, not a depth model, or names files outside its folder.
        BackendError: The device or provider asked for is not there, or did not start.
    """

    backend = "onnxruntime"

    def __init__(self, path: str | Path, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        path = Path(path)
        self._header = read_header(path)
        self.spec, self.max_depth = self._header.spec, self._header.max_depth
        self.precision: Precision = self._header.precision or options.precision
        self._engines: EngineFolder | None = None
        wanted = _choose(options)
        try:
            self._session = self._start(path, wanted, options)
        except BackendError as error:
            self._close_engines()
            if wanted != "cuda" or options.device == "cuda" or options.provider != "auto":
                raise
            wanted, self.why = "cpu", f"runs on the CPU: {error.got}"
            self._session = self._start(path, wanted, options)
        self.provider = _PROVIDERS[wanted]
        self.device = "cpu" if wanted == "cpu" else "cuda:0"
        self._half = self._header.input_type == "float16"

    def _start(self, path: Path, wanted: str, options: RuntimeOptions) -> ort.InferenceSession:
        """A session on a provider, or the reason why it did not start there."""
        about, without = session_settings(self._header, self.precision, wanted == "cpu")
        if options.threads is not None:
            about.intra_op_num_threads = options.threads
        session = _open(path, about, self._providers(wanted, options), without)
        if session.get_providers()[0] != _PROVIDERS[wanted]:
            raise _did_not_start(wanted, f"fell back to {session.get_providers()[0]}")
        session.disable_fallback()  # it would go on without the provider after a failed run, and print that
        return session

    def _providers(self, wanted: str, options: RuntimeOptions) -> list[Any]:
        """The provider wanted first, then those that take what it does not."""
        providers: list[Any] = [_PROVIDERS["cpu"]]
        if wanted == "cpu":
            return providers
        if hasattr(ort, "preload_dlls"):  # finds the CUDA libraries of pip packages without torch
            ort.preload_dlls()
        providers.insert(0, CUDA)
        if wanted == "tensorrt":
            load_libraries()
            self._engines = EngineFolder(options.cache, self._header, ort.__version__)
            told = provider_options(
                self._header, self.precision, options.profile, self._engines.path, linked_tensorrt(_PACKAGE)
            )
            providers.insert(0, (_PROVIDERS["tensorrt"], told))
        return providers

    def describe(self) -> dict[str, Any]:
        """As of any runtime; and TensorRT's provider where it runs."""
        about = super().describe()
        return about | ({"provider": self.provider} if self.provider == _PROVIDERS["tensorrt"] else {})

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            batch = pixel_values.astype(np.float16) if self._half else pixel_values
            if self.device == "cpu":
                depth = self._session.run([self._header.output], {self._header.input: batch})[0]
            else:
                depth = self._run_bound(batch)
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise BackendError(
                f"ONNX Runtime failed on a batch of shape {pixel_values.shape} ({_first_line(error)})",
                fix="try a smaller batch or image; glpn-verify tells whether the file is sound",
            ) from error
        if self._engines is not None and self._engines.empty:
            raise BackendError(
                "TensorRT took no part of the graph: ONNX Runtime ran it on CUDA",
                fix='use provider="cuda", or glpn-build, which says what TensorRT refuses',
            )
        result: NDArray[np.float32] = np.asarray(depth, np.float32)
        return result

    def _run_bound(self, pixel_values: NDArray[Any]) -> Any:
        """Binds input and output to the GPU, so that a run copies each of them once."""
        binding = self._session.io_binding()
        value = ort.OrtValue.ortvalue_from_numpy(pixel_values, "cuda", 0)
        binding.bind_ortvalue_input(self._header.input, value)
        binding.bind_output(self._header.output, "cuda", 0)
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    def _free(self) -> None:
        del self._session
        self._close_engines()

    def _close_engines(self) -> None:
        if self._engines is not None:
            self._engines.close()
            self._engines = None


def _choose(options: RuntimeOptions) -> str:
    """The provider to start, or why it cannot be."""
    if options.device == "cpu":
        return "cpu"
    wanted = "tensorrt" if options.provider == "tensorrt" else "cuda"
    reason = missing_provider_reason(_PROVIDERS[wanted])
    if reason is None:
        return wanted
    if options.device == "cuda" or options.provider != "auto":
        raise BackendError(reason)
    return "cpu"


def _open(
    path: Path, options: ort.SessionOptions, providers: list[Any], without: list[str]
) -> ort.InferenceSession:
    """A session; ``without`` names graph optimisations to leave out."""
    try:
        # No fallback: where a provider cannot be made, Python's binding would print that and take the CPU.
        return ort.InferenceSession(
            str(path), options, providers=providers, disabled_optimizers=without, enable_fallback=0
        )
    except Exception as error:  # as above
        line = _first_line(error)
        if len(providers) > 1 and re.search(
            r"CUDA|cuDNN|cublas|TensorRT|nvinfer|EP_?FAIL", line, re.IGNORECASE
        ):
            raise _did_not_start("tensorrt" if len(providers) > 2 else "cuda", line) from error
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {path} ({line})",
            fix="verify the bundle with glpn-verify, or export it again",
        ) from error


def _did_not_start(wanted: str, what: str) -> BackendError:
    """A GPU provider did not start though there is a GPU: its libraries are missing, or of other versions."""
    if wanted == "tensorrt":
        fix = start_hint(linked_tensorrt(_PACKAGE), getattr(ort, "cuda_version", ""))
    else:
        fix = "look at its messages above; its CUDA and cuDNN versions must match those installed"
    name = "TensorRT" if wanted == "tensorrt" else "CUDA"
    return BackendError(f"ONNX Runtime could not start its {name} provider ({what})", fix=fix)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.onnx`` file."""
    if path is None:
        raise BundleError(
            "the onnxruntime backend was given no .onnx file", fix="export one with glpn-export"
        )
    return OnnxRuntime(path, options)
