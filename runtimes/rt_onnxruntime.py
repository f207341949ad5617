"""ONNX Runtime on CPU, CUDA and, where it is asked for, TensorRT.

The graph stays dynamic: fixing its free dimensions made it no faster (docs/decisions/backends.md).
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, BundleError, UnavailableError, first_line
from glpn_deploy.gpu.cuda_device import find_device
from glpn_deploy.optional import install_line
from glpn_deploy.runtimes.base import Precision, Reason, Runtime, RuntimeOptions
from glpn_deploy.runtimes.onnx_file.header import input_spec, read_header
from glpn_deploy.runtimes.ort_session import CPU, CUDA, CUDA_FIXED, open_session
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
_PROVIDERS = {"cpu": CPU, "cuda": CUDA[0], "tensorrt": PROVIDER}
_NO_HALF = "ONNX Runtime computes FP16 files in fp32 on a CPU, where it has fp32 and int8"
_OF_A_GPU = re.compile(r"CUDA|cuDNN|cublas|TensorRT|nvinfer|EP_?FAIL", re.IGNORECASE)


def missing_provider_reason(provider: str) -> str | None:
    """Why an execution provider cannot be used here, or None where nothing is known to be missing.

    The driver is asked before ONNX Runtime is, which would load 280 MB of CUDA code and print why not.
    """
    if provider not in ort.get_available_providers():
        return (
            f"this onnxruntime {ort.__version__} was built without {provider} "
            f"(it has {', '.join(ort.get_available_providers())}); "
            f"pip uninstall -y onnxruntime onnxruntime-gpu, then {install_line('gpu')}"
        )
    if provider == _PROVIDERS["cpu"]:
        return None
    try:
        find_device()
    except BackendError as error:
        return str(error).rstrip(".")
    return None


class OnnxRuntime(Runtime):
    """One session over one ONNX file.

    With ``provider="tensorrt"`` TensorRT builds an engine of the graph at the first batch (minutes), and
    again for shapes outside ``profile``; with a cache folder the next start finds it. It computes FP32
    products in TF32, which its provider has no option against. Never run on a GPU yet.

    A file whose input is FP16 is given the batch in FP16, one of uint8 images those; depths come back in FP32
    in any case.

    Args:
        path: The ``.onnx`` file.
        options: Device, provider, threads, cache and profile; the precision is the file's own.

    Attributes:
        provider: The execution provider that runs it, as ONNX Runtime calls it.

    Raises:
        BundleError: The file is missing, damaged, not a depth model, or names files outside its folder.
        BackendError: The device or provider asked for is not there, or did not start.
    """

    backend = "onnxruntime"

    def __init__(self, path: str | Path, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        path, options = Path(path), options.settled()
        self._header = read_header(path)
        self.spec, self.max_depth = self._header.spec, self._header.max_depth
        self.precision: Precision = self._header.precision
        self._engines: EngineFolder | None = None
        wanted = _choose(options)
        try:
            self._session = self._start(path, wanted, options)
        except BackendError as error:
            self._close_engines()
            if wanted != "cuda" or options.device == "cuda" or options.provider != "auto":
                raise
            wanted, self.reasons = "cpu", (Reason(f"runs on the CPU: {error.got}"),)
            self._session = self._start(path, wanted, options)
        if self.precision == "fp16" and wanted == "cpu":
            self.reasons = (*self.reasons, Reason(_NO_HALF, unmet=True))
        self.provider = _PROVIDERS[wanted]
        self.device = "cpu" if wanted == "cpu" else "cuda:0"
        self.at_once = options.at_once if wanted == "cpu" else 1
        self._half, self._threads = self._header.input_type == "float16", _threads(wanted, options)

    def _start(self, path: Path, wanted: str, options: RuntimeOptions) -> ort.InferenceSession:
        """A session on a provider, or the reason why it did not start there."""
        providers = self._providers(wanted, options)
        try:
            session = open_session(
                path,
                providers=providers,
                precision=self.precision,
                threads=_threads(wanted, options),
                spin=options.spin,
            )
        except BackendError as error:
            told = first_line(error.__cause__ or error)
            if wanted != "cpu" and _OF_A_GPU.search(told):
                raise _did_not_start(wanted, told) from error.__cause__
            raise BundleError(
                error.got, fix="verify the bundle with glpn-verify, or export it again"
            ) from error.__cause__
        if session.get_providers()[0] != _PROVIDERS[wanted]:
            raise _did_not_start(wanted, f"fell back to {session.get_providers()[0]}")
        return session

    def _providers(self, wanted: str, options: RuntimeOptions) -> list[Any]:
        """The provider wanted first, then those that take what it does not."""
        providers: list[Any] = [_PROVIDERS["cpu"]]
        if wanted == "cpu":
            return providers
        if hasattr(ort, "preload_dlls"):  # finds the CUDA libraries of pip packages without torch
            ort.preload_dlls()
        fixed = None not in (self.spec.batch, self.spec.height, self.spec.width)
        providers.insert(0, CUDA_FIXED if fixed else CUDA)
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

    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        try:
            batch = pixel_values.astype(np.float16) if self._half else pixel_values
            if self.device == "cpu":
                depth = self._session.run([self._header.output], {self._header.input: batch})[0]
            else:
                depth = self._run_bound(batch)
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise BackendError(
                f"ONNX Runtime failed on a batch of shape {pixel_values.shape} ({first_line(error)})",
                fix="try a smaller batch or image; glpn-verify tells whether the file is sound",
            ) from error
        if self._engines is not None and self._engines.empty:
            raise BackendError(
                "TensorRT took no part of the graph: ONNX Runtime ran it on CUDA",
                fix='use provider="cuda", or glpn-build, which says what TensorRT refuses',
            )
        result: NDArray[np.float32] = np.asarray(depth, np.float32)
        return result

    def operator_times(self, pixel_values: NDArray[np.float32]) -> dict[str, float]:
        """Time of a run by type of node [ms], of a session of its own on the CPU that tells it."""
        if self.device != "cpu":
            return {}  # a kernel's start is timed there, not its end
        batch = pixel_values.astype(np.float16) if self._half else pixel_values
        with tempfile.TemporaryDirectory() as folder:
            session = open_session(
                self._header.files[0],
                precision=self.precision,
                threads=self._threads,
                profile=Path(folder) / "run",
            )
            for _ in range(2):
                session.run([self._header.output], {self._header.input: batch})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        begin = [event["ts"] for event in events if event["name"] == "model_run"][1]  # the first is slower
        found: dict[str, float] = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= begin:
                name = event["args"]["op_name"]
                found[name] = found.get(name, 0.0) + event["dur"] / 1e3
        return found

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


def _threads(wanted: str, options: RuntimeOptions) -> int | None:
    """Threads of a run. With one, a session computes in the threads that call it, at the same time."""
    return 1 if wanted == "cpu" and options.mode == "throughput" else options.threads


def _choose(options: RuntimeOptions) -> str:
    """The provider to start, or why it cannot be."""
    if options.device == "cpu":
        return "cpu"
    wanted = "tensorrt" if options.provider == "tensorrt" else "cuda"
    reason = missing_provider_reason(_PROVIDERS[wanted])
    if reason is None:
        return wanted
    asked = [f"{name} {getattr(options, name)}" for name in ("device", "provider")]
    if asked := [words for words in asked if not words.endswith("auto")]:
        raise UnavailableError(f"{' and '.join(asked)} cannot be had here: {reason}")
    return "cpu"


def _did_not_start(wanted: str, what: str) -> BackendError:
    """A GPU provider did not start though there is a GPU: its libraries are missing, or of other versions."""
    if wanted == "tensorrt":
        fix = start_hint(linked_tensorrt(_PACKAGE), getattr(ort, "cuda_version", ""))
    else:
        fix = "look at its messages above; its CUDA and cuDNN versions must match those installed"
    name = "TensorRT" if wanted == "tensorrt" else "CUDA"
    return BackendError(f"ONNX Runtime could not start its {name} provider ({what})", fix=fix)


def installed() -> str:
    """For `glpn-doctor`: the version, and what it runs on."""
    has_cuda = missing_provider_reason(_PROVIDERS["cuda"]) is None
    return f"{ort.__version__}, CPU{' and CUDA' if has_cuda else ''}"


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.onnx`` file."""
    if path is None:
        raise BundleError(
            "the onnxruntime backend was given no .onnx file", fix="export one with glpn-export"
        )
    return OnnxRuntime(path, options)
