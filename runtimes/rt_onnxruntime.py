"""ONNX Runtime on CPU and CUDA."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, BundleError
from glpn_deploy.runtimes.base import PRECISIONS, InputSpec, Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.external_data import check_external_data

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


def input_spec(shape: list[int | str | None]) -> InputSpec:
    """Reads the shapes a graph takes from its input, whose free sides are called ``32*h32``."""
    batch, channels, height, width = shape

    def fixed(size: int | str | None) -> int | None:
        return size if isinstance(size, int) else None

    multiples = [re.fullmatch(r"(\d+)\*\w+", size) for size in (height, width) if isinstance(size, str)]
    multiple = max((int(match[1]) for match in multiples if match), default=32)
    if any(isinstance(size, int) and size % multiple for size in (height, width)):
        multiple = 1
    return InputSpec(fixed(channels) or 3, multiple, fixed(batch), fixed(height), fixed(width))


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
        if not path.is_file():
            raise BundleError(f"there is no file {path}", expected="an .onnx file")
        try:
            check_external_data(path)
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror})", fix="check its permissions"
            ) from error
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
        try:
            session = ort.InferenceSession(str(path), session_options, providers=providers)
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot load {path} ({_first_line(error)})",
                fix="verify the bundle with glpn-verify, or export it again",
            ) from error
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
        self.max_depth = _positive(about.get("max_depth"), path)
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


def _positive(text: str | None, path: Path) -> float | None:
    """A scale from a file's metadata [m]."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BundleError(f"{path} says max_depth {text!r}", expected="a number of metres above 0")
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.onnx`` file."""
    if path is None:
        raise BundleError(
            "the onnxruntime backend was given no .onnx file", fix="export one with glpn-export"
        )
    return OnnxRuntime(path, options)
