"""OpenVINO on the CPU, one compiled network per shape.

An INT8 graph in the form for TensorRT is computed as it stands: OpenVINO 2026.4 makes integer kernels of it
that are wrong behind the decoder's Concat. The measurements are in docs/decisions/backends.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.identity import HeldFiles
from glpn_deploy.errors import BackendError, BundleError, UnavailableError
from glpn_deploy.optional import install_line
from glpn_deploy.runtimes.base import Precision, Reason, Runtime, RuntimeOptions
from glpn_deploy.runtimes.compiled_cache import CompiledCache, files_digest
from glpn_deploy.runtimes.onnx_file.header import read_header
from glpn_deploy.runtimes.processor import cpu_flags, hides_avx512, saturates_int8
from glpn_deploy.runtimes.specialize import LIMIT, Shape, Specializer

# Importing openvino reports the import to Intel by network, through a package that it falls back from
# to a stub of its own where it is missing. A depth estimator has nothing to report; it also starts faster.
_HUSH = not {"openvino", "openvino_telemetry"} & sys.modules.keys()
if _HUSH:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino as ov
    from openvino.frontend import FrontEndManager
finally:
    if _HUSH:
        del sys.modules["openvino_telemetry"]

# One for the process, never let go of. OpenVINO's CPU plugin gives the thread that loads it a signal stack of
# its own and unmaps it when its core goes (seen in 2026.4). Where cores overlap, as those of two estimators
# closed in the order of their opening would, the thread is left with a stack that is no longer there, and the
# next Ctrl-C ends the process or writes into whatever lies there by then.
_CORE = ov.Core()
# `Core.read_model` tries the frontends of other frameworks where ONNX's does not take a file.
_ONNX = FrontEndManager().load_by_framework("onnx")
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# A dynamic network must not take kernels that it made for another shape: after a batch of 2x32x32 it gives
# depths wrong by 1 m for one of 3x32x256 (OpenVINO 2025.0 to 2026.4; ONNX Runtime and networks of fixed
# shape agree). Without that cache a change of shape costs up to twice the time on tiny networks, 1.2 times
# on the demo network; runs of one shape cost the same.
_DYNAMIC = {"CPU_RUNTIME_CACHE_CAPACITY": 0}
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}
_AS_IT_STANDS = (
    "made for TensorRT: its products are computed in floating point here; --int8 --target cpu is fast"
)
_SATURATES = "this processor has no VNNI: INT8 products may overflow, check the depth with glpn-verify"
_NEEDS = {"bf16": "AMX or AVX512_BF16", "fp16": "AMX-FP16 or AVX512_FP16"}


def native_precisions() -> list[Precision]:
    """What OpenVINO computes in on this processor without falling back to FP32."""
    have = _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["fp32", *(name for name in ("bf16", "fp16") if _CAPABILITIES[name] in have)]


class _Network:
    """A compiled network, with the requests that are not running.

    Args:
        compiled: The network.
        blob: What it was imported from, whose memory it goes on using (2026.4 crashes without it).
    """

    def __init__(self, compiled: Any, blob: NDArray[np.uint8] | None = None) -> None:
        self._compiled = compiled
        self._idle: list[Any] = []  # a request runs one batch at a time; append and pop are atomic
        self._blob = blob  # goes last: those above read from it

    def run(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        if not pixel_values.flags.writeable:  # cannot be shared, though nothing writes to it
            pixel_values = pixel_values.copy()
        # Shared, for a request that copies takes no larger shape after that; the output is a copy. Where the
        # file takes FP16, OpenVINO converts the batch itself.
        depth: NDArray[np.float32] = request.infer(pixel_values, share_inputs=True)[0]
        self._idle.append(request)
        return depth.astype(np.float32, copy=False)


class OpenVINORuntime(Runtime):
    """One ONNX file on OpenVINO's CPU plugin.

    The precision is always explicit: OpenVINO's own default is bf16 on processors that have it. An FP32
    file runs in FP32, or in bf16 or FP16 where the options ask for it and the processor has it; where it
    has not, OpenVINO computes in FP32, and `precision` and `why` say so. Files of another precision run as
    they are; `RuntimeOptions.fallback_precision` says what an INT8 file's other layers compute in.

    Several threads may run it at once; ``mode="throughput"`` is made for that.

    Args:
        path: The ``.onnx`` file.
        options: Device, precision, threads, mode and cache. The cache holds a network's weights for every
            shape compiled (235 MB for glpn-nyu).

    Raises:
        BundleError: The file is missing, damaged, not a depth network, or names files outside its folder.
        BackendError: The device asked for is not there, or oneDNN is kept from AVX-512.
    """

    backend = "openvino"
    device = "cpu"
    _cache: CompiledCache | None

    def __init__(self, path: str | Path, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        if options.device == "cuda":
            raise UnavailableError(
                "the openvino backend runs on the CPU only",
                fix=f'use device="cpu", or the onnxruntime backend: {install_line("gpu")}',
            )
        # oneDNN heeds the setting, OpenVINO's own kernels do not, and the mixture crashes (2026.4 on Zen 4).
        hidden = hides_avx512(os.environ, cpu_flags())
        if hidden:
            raise BackendError(
                f"{hidden} hides AVX-512 from half of OpenVINO, which then crashes",
                fix=f"unset {hidden.partition('=')[0]}, or use the onnxruntime backend",
            )
        options = options.settled()
        self.at_once = options.at_once
        self._path = Path(path)
        header = read_header(self._path)
        self._held = HeldFiles(header.files)  # before the digest is taken
        self.spec, self.max_depth = header.spec, header.max_depth
        native = native_precisions()
        self.precision, hint, self.reasons = _precision(header.precision, options, native, header.target)
        self._prepare(None, hint, options)
        if header.target == "tensorrt":
            self._config["LP_TRANSFORMS_MODE"] = "NO"  # no integer kernels, see above
        if options.cache is not None:
            self._cache, self._digest = CompiledCache(options.cache), self._digest_of(header.files)
        if self._cache is None or not self._cache.has(self._digest):
            self._read()

    def _prepare(self, model: Any, hint: Precision, options: RuntimeOptions) -> None:
        """What compiling takes; a network that is None is read when it is needed."""
        self._config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[hint],
            "PERFORMANCE_HINT": "THROUGHPUT" if options.mode == "throughput" else "LATENCY",
        }
        if options.mode == "worker":  # pinned, every process of one thread sits on core 0 (2026.4)
            self._config["ENABLE_CPU_PINNING"] = False
        if options.threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = options.threads
        self._model = model
        self._cache = None
        self._fixed = None not in (self.spec.batch, self.spec.height, self.spec.width)
        self._networks = Specializer(self._compile, options.cached_shapes or LIMIT)

    @property
    def shapes(self) -> list[Shape]:
        """The input shapes that have a network of their own, the least recently used first."""
        return self._networks.shapes

    def describe(self) -> dict[str, Any]:
        """As of any runtime; and how often the dynamic network ran."""
        return super().describe() | self._networks.describe()

    def warm_up(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As of any runtime: the shape gets a network of its own."""
        return self._infer(self._checked(pixel_values), own=True)

    def _infer(self, pixel_values: NDArray[Any], own: bool = False) -> NDArray[np.float32]:
        try:
            return self._networks.network(pixel_values.shape, own=own).run(pixel_values)
        except BundleError:
            raise
        except Exception as error:  # openvino raises RuntimeError for everything, and what pybind11 maps
            raise BackendError(
                f"OpenVINO failed on a batch of shape {pixel_values.shape} ({_reason(error)})",
                fix="try a smaller batch or image; glpn-verify tells whether the file is sound",
            ) from error

    def _read(self) -> Any:
        """The network as OpenVINO reads it, kept for the shapes to come.

        Raises:
            BundleError: It cannot be loaded, or is not the one any more that the digest was taken of.
        """
        if self._model is None:
            try:
                model = _ONNX.convert(_ONNX.load(str(self._path)))
            except Exception as error:  # as above
                raise BundleError(
                    f"OpenVINO {ov.__version__} cannot load {self._path} ({_reason(error)})",
                    fix="verify the bundle with glpn-verify, or export it again",
                ) from error
            if "LP_TRANSFORMS_MODE" in self._config and _has_half_scales(model):
                raise BackendError(
                    f"OpenVINO {ov.__version__} does not compile {self._path.name}, whose scales are FP16, "
                    "without its integer kernels",
                    fix="use the onnxruntime backend, or export with --target cpu or --for-tensorrt 8.6",
                )
            self._held.require_unchanged()
            self._model = model
        return self._model

    def _compile(self, shape: Shape | None) -> _Network:
        config = self._config | (_DYNAMIC if shape is None else {})
        entry = self._entry(shape) if self._cache is not None else ""
        blob = self._cache.read(entry) if self._cache is not None else None
        if self._cache is not None and blob is not None:
            try:
                return _imported(blob, config)
            except Exception:  # of another build of OpenVINO, or another processor
                self._cache.remove(entry)
        compiled = _CORE.compile_model(self._shaped(shape), "CPU", config)
        if self._cache is not None:
            stream = io.BytesIO()
            compiled.export_model(stream)
            self._cache.write(entry, stream.getbuffer())
        return _Network(compiled)

    def _shaped(self, shape: Shape | None) -> Any:
        model = self._read()
        if shape is not None and not self._fixed:
            model = model.clone()
            model.reshape(list(shape))
        return model

    def operator_times(self, pixel_values: NDArray[np.float32]) -> dict[str, float]:
        """Time of a run by type of node [ms], of a network compiled anew to tell it."""
        config = self._config | {"PERF_COUNT": True}
        request = _CORE.compile_model(self._shaped(pixel_values.shape), "CPU", config).create_infer_request()
        for _ in range(2):  # the first is slower
            request.infer(pixel_values)
        found: dict[str, float] = {}
        for info in request.profiling_info:
            found[info.node_type] = found.get(info.node_type, 0.0) + info.real_time.total_seconds() * 1e3
        return found

    def _entry(self, shape: Shape | None) -> str:
        """Name of a cache entry: the file's content, then everything that changes what is compiled."""
        about = {
            "openvino": ov.__version__,
            "processor": _CORE.get_property("CPU", "FULL_DEVICE_NAME"),
            "capabilities": sorted(_CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            "config": self._config,
            "shape": shape,
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return f"{self._digest}-{digest[:32]}"

    def _digest_of(self, files: tuple[Path, ...]) -> str:
        try:
            return files_digest(files)
        except OSError as error:
            raise BundleError(
                f"{error.filename} cannot be read ({error.strerror})",
                fix="copy the whole bundle again, or export it again",
            ) from error

    def _free(self) -> None:
        self._networks.clear()
        self._model = None


def read_openvino_file(path: Path) -> Any:
    """The network of an ``.xml`` file.

    Raises:
        BackendError: OpenVINO cannot read it.
    """
    try:
        return _CORE.read_model(path)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO {ov.__version__} cannot read {path} ({_reason(error)})") from error


def _has_half_scales(model: Any) -> bool:
    """Whether 8-bit numbers are scaled in FP16, as in graphs for TensorRT from opset 19 on.

    The pass that moves a Transpose behind a FakeQuantize meets constants of two types there, and fails.
    """
    return any(
        node.get_type_name() == "Convert"
        and node.get_output_element_type(0) == ov.Type.f16
        and node.get_input_element_type(0) == ov.Type.i8
        for node in model.get_ops()
    )


def _imported(blob: NDArray[np.uint8], config: dict[str, Any]) -> _Network:
    """A network from the cache."""
    try:
        return _Network(_CORE.import_model(ov.Tensor(blob, shared_memory=True), "CPU", config), blob)
    except TypeError:  # OpenVINO 2025 takes streams only, and copies them
        return _Network(_CORE.import_model(io.BytesIO(blob.data), "CPU", config))


def _precision(
    own: Precision, options: RuntimeOptions, native: list[Precision], target: str = ""
) -> tuple[Precision, Precision, tuple[Reason, ...]]:
    """What the network is said to compute in, what OpenVINO is told, and why where they differ."""
    if own in ("int8", "fp8"):
        told = []
        if target == "tensorrt":
            told.append(Reason(_AS_IT_STANDS))
        elif not target and own == "int8" and saturates_int8(cpu_flags()):
            told.append(Reason(_SATURATES))  # ours for CPUs have 7-bit weights, which cannot
        fallback = options.fallback_precision
        if fallback not in native:
            told.append(
                Reason(f"what is not quantized runs in fp32: {_lacking(fallback, native)}", unmet=True)
            )
        return own, fallback if fallback in native else "fp32", tuple(told)
    by_hint = own == "fp32" and options.precision in ("bf16", "fp16")
    hint = options.precision if by_hint else own
    if hint in native:
        return hint, hint, ()
    if by_hint:
        return "fp32", "fp32", (Reason(f"runs in fp32, not {hint}: {_lacking(hint, native)}", unmet=True),)
    return own, "fp32", (Reason(f"the {own} file is computed in fp32: {_lacking(hint, native)}", unmet=True),)


def _lacking(precision: str, native: Sequence[str]) -> str:
    return (
        f"this processor has no {precision} arithmetic, which takes {_NEEDS[precision]}; OpenVINO computes "
        f"in {' and '.join(native)} here"
    )


def _reason(error: Exception) -> str:
    """OpenVINO's last line that says what happened; those before it name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[-1][:200]


def installed() -> str:
    """For `glpn-doctor`: the version, and what it computes in."""
    return f"{ov.__version__.split('-')[0]}, CPU in {', '.join(native_precisions())}"


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.onnx`` file."""
    if path is None:
        raise BundleError("the openvino backend was given no .onnx file", fix="export one with glpn-export")
    return OpenVINORuntime(path, options)
