"""ONNX Runtime on CPU and CUDA.

The graph stays dynamic: a session with its free dimensions fixed to 1x480x640 took as long as the dynamic
one (glpn-nyu's architecture, 1.03 times the processor time on an AVX2 core, within the run's noise).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.base import PRECISIONS, Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_header import check_file, input_spec, positive_scale

__all__ = ["OnnxRuntime", "input_spec", "load", "missing_provider_reason"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def missing_provider_reason(provider: str) -> str | None:
    """Why an execution provider cannot be used here, or None where ONNX Runtime offers it."""
    if provider in ort.get_available_providers():
        return None
    return (
        f"this onnxruntime {ort.__version__} was built without {provider} "
        f"(it has {', '.join(ort.get_available_providers())}); "
        'pip uninstall onnxruntime, then pip install "glpn-deploy[gpu]" (the two exclude each other)'
    )


class OnnxRuntime(Runtime):
    """One session over one ONNX file.

    Args:
        path: The ``.onnx`` file.
        options: Device and threads; the precision is only reported, where the file does not say its own.

    Raises:
        BundleError: The file is missing, damaged, not a depth model, or names files outside its folder.
        BackendError: The device asked for is not there.
    """

    backend = "onnxruntime"

    def __init__(self, path: str | Path, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        path = Path(path)
        check_file(path)
        wanted = self._choose(options)
        providers: list[Any] = [_PROVIDERS["cpu"]]
        if wanted == "cuda":
            if hasattr(ort, "preload_dlls"):  # finds the CUDA libraries of pip packages without torch
                ort.preload_dlls()
            # TF32 rounds FP32 products to 10 bits, which no FP32 tolerance survives.
            providers.insert(0, (_PROVIDERS["cuda"], {"use_tf32": "0"}))
        session_options = ort.SessionOptions()
        session_options.log_severity_level = 3
        if options.threads is not None:
            session_options.intra_op_num_threads = options.threads
        if options.precision == "fp8":  # on a CPU it loads no further optimised than this
            session_options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = _open(path, session_options, providers)
        if wanted == "cpu" and session.get_modelmeta().custom_metadata_map.get("target") == "tensorrt":
            # A graph of Q/DQ pairs for TensorRT: integer kernels made of it saturate on CPUs without VNNI
            # (AbsRel 0.012 instead of 0.004 on the demo network), and the step that quantises biases spoils
            # FP16 ones (0.09). Computed as it stands it is right, and slow.
            session_options.add_session_config_entry("session.disable_quant_qdq", "1")
            session = _open(path, session_options, providers, ["WeightBiasQuantization"])
        if wanted == "cuda" and session.get_providers()[0] != _PROVIDERS["cuda"]:
            raise BackendError(
                "ONNX Runtime could not start its CUDA provider and fell back to the CPU",
                fix="look at its messages above; its CUDA and cuDNN versions must match those installed",
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if (
            len(inputs) != 1
            or len(outputs) != 1
            or (len(inputs[0].shape), len(outputs[0].shape)) != (4, 3)
            or {inputs[0].type, outputs[0].type} != {"tensor(float)"}
        ):
            raise BundleError(
                f"{path} has inputs {[(i.name, i.type, i.shape) for i in inputs]} "
                f"and outputs {[(o.name, o.type, o.shape) for o in outputs]}",
                expected="one float32 image batch in and one depth batch out",
            )
        self.device = "cuda:0" if wanted == "cuda" else "cpu"
        self.spec = input_spec(inputs[0].shape)
        about = session.get_modelmeta().custom_metadata_map
        self.max_depth = positive_scale(about.get("max_depth"), path)
        self.precision: Precision = options.precision
        for name in PRECISIONS:
            if name == about.get("precision"):
                self.precision = name
        self._input, self._output = inputs[0].name, outputs[0].name
        self._session = session

    @staticmethod
    def _choose(options: RuntimeOptions) -> str:
        reason = missing_provider_reason(_PROVIDERS["cuda"])
        if options.device == "cuda" and reason is not None:
            raise BackendError(reason)
        return "cuda" if options.device != "cpu" and reason is None else "cpu"

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            if self.device == "cpu":
                depth = self._session.run([self._output], {self._input: pixel_values})[0]
            else:
                depth = self._run_bound(pixel_values)
        except Exception as error:  # as above
            raise BackendError(
                f"ONNX Runtime failed on a batch of shape {pixel_values.shape} ({_first_line(error)})",
                fix="try a smaller batch or image; glpn-verify tells whether the file is sound",
            ) from error
        result: NDArray[np.float32] = np.asarray(depth, np.float32)
        return result

    def _run_bound(self, pixel_values: NDArray[np.float32]) -> Any:
        """Binds input and output to the GPU, so that a run copies each of them once."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, ort.OrtValue.ortvalue_from_numpy(pixel_values, "cuda", 0))
        binding.bind_output(self._output, "cuda", 0)
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    def _free(self) -> None:
        del self._session


def _open(
    path: Path, options: ort.SessionOptions, providers: list[Any], without: list[str] | None = None
) -> ort.InferenceSession:
    """A session; ``without`` names graph optimisations to leave out."""
    try:
        return ort.InferenceSession(
            str(path), options, providers=providers, disabled_optimizers=without or []
        )
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {path} ({_first_line(error)})",
            fix="verify the bundle with glpn-verify, or export it again",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.onnx`` file."""
    if path is None:
        raise BundleError(
            "the onnxruntime backend was given no .onnx file", fix="export one with glpn-export"
        )
    return OnnxRuntime(path, options)
