"""From a checked plan to an engine: what TensorRT says, refitting of stripped plans, tensors and profiles."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.bundle.engine_sidecar import Sidecar, rebuild_command
from glpn_deploy.errors import BackendError, EngineError, InputError
from glpn_deploy.gpu.tensorrt_rtx import invalidity
from glpn_deploy.gpu.tensorrt_versions import collecting_logger
from glpn_deploy.runtimes.base import InputSpec, InputType

_DEPTH_TYPES: dict[str, np.dtype[Any]] = {"FLOAT": np.dtype(np.float32), "HALF": np.dtype(np.float16)}
_IMAGE_TYPES = {**_DEPTH_TYPES, "UINT8": np.dtype(np.uint8)}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that goes in or comes out.

    Attributes:
        dtype: float32, or float16; of images uint8 as well.
    """

    name: str
    dtype: np.dtype[Any]

    @property
    def taken(self) -> InputType:
        """What a runtime is given for it: float16 is made of float32."""
        return "uint8" if self.dtype == np.uint8 else "float32"


@dataclasses.dataclass(frozen=True)
class Plan:
    """An engine as TensorRT holds it.

    Attributes:
        runtime: TensorRT's runtime, which the engine needs as long as it lives.
        source: The image batch, ``(N, 3, H, W)``; of uint8 ``(N, H, W, 3)``.
        target: The depth, ``(N, H, W)``.
        config: What its contexts are made with (TensorRT for RTX), or None.
    """

    runtime: Any
    engine: Any
    source: Tensor
    target: Tensor
    profiles: tuple[Profile, ...]
    config: Any = None


logger = functools.cache(collecting_logger)
"""What TensorRT talks to: one for a module, for TensorRT keeps to the first that a process shows it."""


def reason(trt: Any) -> str:
    """TensorRT's last error, in brackets, which is taken out of the record; empty where it said nothing."""
    log = logger(trt)
    last = " ".join(log.errors[-1].split())[:300] if log.errors else ""
    log.errors.clear()
    log.warnings.clear()
    return f" ({last})" if last else ""


def open_plan(trt: Any, content: bytes, path: Path, sidecar: Sidecar, onnx: Path | None) -> Plan:
    """Deserializes a plan that was checked before.

    Args:
        onnx: The file that holds the weights of a stripped plan, checked as well; None where there is none.
    """
    again = f"build it again here: {rebuild_command(path, sidecar)}"
    reason(trt)
    try:
        runtime = trt.Runtime(logger(trt))
    except (TypeError, RuntimeError):  # pybind11's words for a null pointer
        raise BackendError(
            f"TensorRT could not start{reason(trt)}", fix="glpn-doctor tells what is missing"
        ) from None
    runtime.engine_host_code_allowed = False  # of version-compatible plans, which could bring their own
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        known = invalidity(trt, runtime, content) if hasattr(runtime, "get_engine_validity") else ()
        why = f" ({', '.join(known)})" if known else reason(trt)
        raise EngineError(f"TensorRT {trt.__version__} does not take {path}{why}", fix=again)
    if sidecar.stripped:
        _refit(trt, engine, path, onnx, again)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    sources = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    targets = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    kinds = {name: engine.get_tensor_dtype(name).name for name in names}
    sides = [len(engine.get_tensor_shape(name)) for name in (*sources, *targets)]
    typed = all(kinds[n] in _IMAGE_TYPES for n in sources) and all(kinds[n] in _DEPTH_TYPES for n in targets)
    if len(sources) != 1 or len(targets) != 1 or sides != [4, 3] or not typed:
        raise EngineError(
            f"{path} has the tensors "
            f"{[(name, kinds[name], tuple(engine.get_tensor_shape(name))) for name in names]}",
            expected="one image batch in and one depth batch out, of float32 or float16, or uint8 images",
            fix=again,
        )
    source = Tensor(sources[0], _IMAGE_TYPES[kinds[sources[0]]])
    target = Tensor(targets[0], _DEPTH_TYPES[kinds[targets[0]]])
    return Plan(runtime, engine, source, target, _profiles(engine, source, path, again))


def _refit(trt: Any, engine: Any, path: Path, onnx: Path | None, again: str) -> None:
    """Gives a stripped plan its weights back."""
    if onnx is None:
        raise EngineError(
            f"{path.name} was built without weights, and the .onnx file that holds them is not at hand",
            expected="the engine in its bundle's engines/ folder",
            fix=f"open the bundle, or {again}",
        )
    refitter_of = getattr(trt, "OnnxParserRefitter", None)
    if refitter_of is None:
        raise EngineError(
            f"{path.name} was built without weights; TensorRT {trt.__version__} cannot put them back",
            expected="TensorRT 10 or later",
            fix=again,
        )
    refitter = trt.Refitter(engine, logger(trt))
    parser = refitter_of(refitter, logger(trt))
    if not parser.refit_from_file(str(onnx)):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        told = f" ({errors[-1]})" if errors else reason(trt)
        raise EngineError(f"{path.name} cannot be given the weights of {onnx.name}{told}", fix=again)
    if not refitter.refit_cuda_engine():
        raise EngineError(f"{path.name} lacks weights that {onnx.name} does not have{reason(trt)}", fix=again)


def _profiles(engine: Any, source: Tensor, path: Path, again: str) -> tuple[Profile, ...]:
    found: list[Profile] = []
    spec = InputSpec(dtype=source.taken)
    fixed = tuple(engine.get_tensor_shape(source.name))
    for index in range(engine.num_optimization_profiles):
        told = engine.get_tensor_profile_shape(source.name, index) if -1 in fixed else [fixed] * 3
        shapes = [tuple(int(n) for n in shape) for shape in told]
        batches = [images for shape in shapes if (images := spec.images_shape(shape)) is not None]
        if len(shapes) != 3 or len(batches) != 3:
            raise EngineError(
                f"{path} has a profile of {shapes}", expected="batches of RGB images", fix=again
            )
        try:
            found.append(Profile(*batches))
        except InputError as error:
            raise EngineError(f"{path}: {error.got}", expected=error.expected, fix=again) from None
    if not found:
        raise EngineError(f"{path} takes no shapes: it has no profile", fix=again)
    return tuple(found)


def device_memory(engine: Any) -> int:
    """Memory for activations that serves every profile of an engine [bytes]."""
    size = getattr(engine, "device_memory_size_v2", None)  # 10 and later
    return int(engine.device_memory_size if size is None else size)
