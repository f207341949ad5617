"""Engines that compute with numpy on a simulated GPU, behind the recorded names of TensorRT's real versions.

The names, signatures and properties are those of `tests/tensorrt_api.py`; what the calls do is here, with
the rules that TensorRT's documentation gives: a profile belongs to one context and is there once its stream
has been waited for, a shape must lie in it, addresses are read when the work is done, the first run after a
new shape cannot be captured, and a graph whose context has moved on gives nonsense.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.bundle.engine_sidecar import Sidecar, write_sidecar
from glpn_deploy.bundle.engine_trust import remember_engine
from glpn_deploy.gpu.cuda_device import CudaDevice

RANGE = Profile((1, 32, 32), (1, 64, 96), (4, 96, 128))
Shape = tuple[int, int, int]


def depth_of(pixels: np.ndarray) -> np.ndarray:
    """What the network computes: no two pixels, channels or images may be exchanged unnoticed.

    Images (N, H, W, 3) of bytes are divided by 255 first.
    """
    if pixels.dtype == np.uint8:
        pixels = pixels.transpose(0, 3, 1, 2) / np.float32(255)
    batch, _, height, width = pixels.shape
    place = np.arange(batch * height * width, dtype=np.float32).reshape(batch, height, width)
    weights = np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)
    return ((pixels.astype(np.float32) * weights).sum(1) + 1e-3 * np.sqrt(place)).astype(np.float32)


def plan_bytes(
    profiles: Sequence[tuple[Shape, Shape, Shape]],
    tensors: Sequence[tuple[str, str, str]] = (
        ("pixel_values", "INPUT", "FLOAT"),
        ("depth", "OUTPUT", "FLOAT"),
    ),
    stripped: bool = False,
) -> bytes:
    """A plan; its tensors are named in the engine's order, with mode and type."""
    return json.dumps({"profiles": profiles, "tensors": tensors, "stripped": stripped}).encode()


class TensorRTSimulator:
    """Puts behaviour behind a stand-in of one version.

    Args:
        trt: The stand-in.
        cuda: The simulated GPU.

    Attributes:
        capture_fault: ``"wrong"`` makes captured work differ, ``"empty"`` captures nothing, ``"refused"``
            makes capturing fail.
        no_room: The number of contexts for which there is room, or None.
        contexts: Contexts that are alive.
    """

    def __init__(self, trt: Any, cuda: Any) -> None:
        self.trt, self.cuda = trt, cuda
        self.capture_fault = ""
        self.no_room: int | None = None
        self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self.engines: weakref.WeakSet[Any] = weakref.WeakSet()
        self.scratch = 4096
        self._logger: Any = None
        answers: dict[str, Callable[..., Any]] = {
            "Runtime.__init__": self._start,
            "Runtime.deserialize_cuda_engine": self._deserialise,
            "ICudaEngine.num_io_tensors": lambda engine: len(self._about(engine)["tensors"]),
            "ICudaEngine.num_optimization_profiles": lambda engine: len(self._about(engine)["profiles"]),
            "ICudaEngine.get_tensor_name": lambda engine, i: self._about(engine)["tensors"][i][0],
            "ICudaEngine.get_tensor_mode": lambda e, name: getattr(
                trt.TensorIOMode, self._tensor(e, name)[1]
            ),
            "ICudaEngine.get_tensor_dtype": lambda e, name: getattr(trt.DataType, self._tensor(e, name)[2]),
            "ICudaEngine.get_tensor_shape": self._engine_shape,
            "ICudaEngine.get_tensor_profile_shape": self._profile_shape,
            "ICudaEngine.create_execution_context": self._create,
            "ICudaEngine.create_execution_context_without_device_memory": self._create_bare,
            "ICudaEngine.device_memory_size": lambda engine: self.scratch,
            "ICudaEngine.device_memory_size_v2": lambda engine: self.scratch,
            "IExecutionContext.set_device_memory": self._set_memory,
            "IExecutionContext.set_optimization_profile_async": self._set_profile,
            "IExecutionContext.set_tensor_address": self._set_address,
            "IExecutionContext.set_input_shape": self._set_shape,
            "IExecutionContext.get_tensor_shape": self._shape,
            "IExecutionContext.execute_async_v3": self._execute,
            "IRuntimeConfig.set_execution_context_allocation_strategy": lambda config, how: (
                config.__dict__.update(allocation=how)
            ),
            "OnnxParserRefitter.__init__": lambda parser, refitter, log: parser.__dict__.update(of=refitter),
            "OnnxParserRefitter.refit_from_file": self._refit_from,
            "OnnxParserRefitter.num_errors": lambda parser: 0,
            "Refitter.__init__": lambda refitter, engine, log: refitter.__dict__.update(of=engine),
            "Refitter.refit_cuda_engine": self._refit,
        }
        trt.answers.update(answers)

    def error(self, message: str) -> None:
        self._logger.log(self.trt.ILogger.ERROR, message)

    def _start(self, runtime: Any, logger: Any) -> None:
        self._logger = self._logger or logger  # TensorRT keeps to the first

    def _deserialise(self, runtime: Any, content: Any) -> Any:
        try:
            about = json.loads(bytes(content))
        except ValueError:
            self.error("Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed")
            return None
        engine = self._make("ICudaEngine", about=about, runtime=runtime, taken=weakref.WeakSet())
        self.engines.add(engine)
        return engine

    def _make(self, kind: str, **state: Any) -> Any:
        made = object.__new__(getattr(self.trt, kind))
        vars(made).update(state)
        return made

    def _about(self, engine: Any) -> Any:
        return vars(engine)["about"]

    def _tensor(self, engine: Any, name: str) -> Any:
        return next(entry for entry in self._about(engine)["tensors"] if entry[0] == name)

    def _engine_shape(self, engine: Any, name: str) -> Any:
        """As it was built: of one fixed profile the shapes are the network's own."""
        (low, _, high), *others = self._about(engine)["profiles"]
        n, height, width = low if low == high and not others else (-1, -1, -1)
        return (n, 3, height, width) if self._tensor(engine, name)[1] == "INPUT" else (n, height, width)

    def _profile_shape(self, engine: Any, name: str, index: int) -> Any:
        if self._tensor(engine, name)[1] != "INPUT":
            raise RuntimeError("not an input")
        last = self._tensor(engine, name)[2] == "UINT8"
        shapes = self._about(engine)["profiles"][index]
        return [(n, h, w, 3) if last else (n, 3, h, w) for n, h, w in shapes]

    def _refit_from(self, parser: Any, model: str) -> bool:
        return Path(model).stat().st_size > 0

    def _refit(self, refitter: Any) -> bool:
        self._about(vars(refitter)["of"])["stripped"] = False
        return True

    # Contexts ----------------------------------------------------------------------------------------

    def _create(self, engine: Any, how: Any = None) -> Any:
        """Only contexts that take no memory of their own are made: it must be given them."""
        managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if managed not in (how, vars(how or self).get("allocation")):
            self.cuda.misuse.append("a context with memory of its own")
        return self._create_bare(engine)

    def _create_bare(self, engine: Any) -> Any:
        if self.no_room is not None and len(self.contexts) >= self.no_room:
            self.error("Error Code 2: OutOfMemory (Requested size was 1234 bytes.)")
            return None
        context = self._make(
            "IExecutionContext",
            of=engine,
            profile=None,
            shape=None,
            addresses={},
            version=0,
            ran=False,
            scratch=None,
        )
        if not vars(engine)["taken"] and not self.contexts:
            vars(context)["profile"] = 0
        vars(engine)["taken"].add(context)
        self.contexts.add(context)
        return context

    def _set_allocation(self, config: Any, strategy: Any) -> None:
        vars(config)["allocation"] = strategy

    def _set_memory(self, context: Any, address: int, size: int) -> None:
        if size < self.scratch or address % 256:
            self.error(f"device memory of {size} bytes at {address:#x}")
            return
        vars(context)["scratch"] = address

    def _set_profile(self, context: Any, index: int, stream: int) -> bool:
        state = vars(context)
        others = [vars(other)["profile"] for other in vars(state["of"])["taken"] if other is not context]
        if not 0 <= index < len(self._about(state["of"])["profiles"]) or index in others:
            self.error(f"profile {index} is taken or is not there")
            return False
        state["profile"] = None
        weak = weakref.ref(context)

        def work() -> None:
            found = weak()
            if found is not None:
                vars(found)["profile"] = index

        self.cuda.enqueue(stream, work)
        return True

    def _set_address(self, context: Any, name: str, address: int) -> bool:
        if name not in [entry[0] for entry in self._about(vars(context)["of"])["tensors"]]:
            self.error(f"there is no tensor {name}")
            return False
        vars(context)["addresses"][name] = address
        return True

    def _set_shape(self, context: Any, name: str, shape: Any) -> bool:
        state = vars(context)
        if state["profile"] is None:
            self.error("no profile: the stream that it was set on was not waited for")
            return False
        low, _, high = self._profile_shape(state["of"], name, state["profile"])
        if len(shape) != 4 or any(not a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            self.error(f"Static dimension mismatch: {tuple(shape)} is not in {low} to {high}")
            return False
        state.update(shape=tuple(shape), version=state["version"] + 1, ran=False)
        return True

    def _shape(self, context: Any, name: str) -> Any:
        shape = vars(context)["shape"]
        is_input = self._tensor(vars(context)["of"], name)[1] == "INPUT"
        if shape is None:
            return (-1, 3, -1, -1) if is_input else (-1, -1, -1)
        return shape if is_input else (shape[0], *(shape[1:3] if shape[3] == 3 else shape[2:]))

    def _execute(self, context: Any, stream: int) -> bool:
        state = vars(context)
        about = self._about(state["of"])
        if about["stripped"]:
            self.error("the weights are missing")
            return False
        scratch = state.get("device_memory", state["scratch"])  # a property on 8.6
        if None in (state["shape"], scratch) or len(state["addresses"]) != len(about["tensors"]):
            self.error("a shape, an address or device memory is missing")
            return False
        if self.cuda.current() != self.cuda.stream_device(stream):
            self.error("the stream belongs to another device than the thread's")
            return False
        captured = self.cuda.capturing(stream)
        if captured and (self.capture_fault == "refused" or not state["ran"]):
            self.error("operation not permitted when stream is capturing")
            return False
        if captured and self.capture_fault == "empty":
            return True
        state["ran"] = True
        version, shape = state["version"], state["shape"]
        addresses = dict(state["addresses"])
        weak = weakref.ref(context)
        types = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}
        ((source, source_type),) = [(n, types[t]) for n, mode, t in about["tensors"] if mode == "INPUT"]
        ((target, target_type),) = [(n, types[t]) for n, mode, t in about["tensors"] if mode == "OUTPUT"]

        def work() -> None:
            self.cuda.memory(scratch, self.scratch)[:] = 0x55
            size = int(np.prod(shape)) * np.dtype(source_type).itemsize
            pixels = self.cuda.memory(addresses[source], size).view(source_type).reshape(shape)
            depth = depth_of(pixels)
            found = weak()
            if captured and (found is None or vars(found)["version"] != version):
                depth = depth * np.nan  # what NVIDIA leaves open
            if captured and self.capture_fault == "wrong":
                depth = depth + 0.25
            out = np.ascontiguousarray(depth.astype(target_type))
            self.cuda.memory(addresses[target], out.nbytes)[:] = np.frombuffer(out.tobytes(), np.uint8)
            self.cuda.now += 2.0

        self.cuda.enqueue(stream, work)
        return True


class SimulatedGpu:
    """A machine with a GPU that TensorRT runs on.

    Attributes:
        cuda: `tests/cuda_simulator.py`.
        trt: The stand-in of TensorRT's module.
        tensorrt: `tests/tensorrt_simulator.py`.
        device: What the driver says.
    """

    def __init__(self, cuda: Any, trt: Any, integrated: bool) -> None:
        self.cuda, self.trt = cuda, trt
        self.tensorrt = TensorRTSimulator(trt, cuda)
        self.device = CudaDevice(0, "NVIDIA Test", (8, 7), 8 << 30, integrated, (12, 6))

    def engine(
        self,
        folder: Path,
        profiles: tuple[Profile, ...] = (RANGE,),
        name: str = "test.engine",
        tensors: Any = None,
        content: bytes | None = None,
        stranger: bool = False,
        **changed: Any,
    ) -> Path:
        """Writes a plan and its sidecar; a stranger's was not built here."""
        folder.mkdir(parents=True, exist_ok=True)
        shapes = [(p.min, p.opt, p.max) for p in profiles]
        arguments = {"stripped": changed.get("stripped", False)} | ({"tensors": tensors} if tensors else {})
        plan = plan_bytes(shapes, **arguments) if content is None else content
        path = folder / name
        path.write_bytes(plan)
        about: dict[str, Any] = {
            "engine": name,
            "sha256": hashlib.sha256(plan).hexdigest(),
            "bytes": len(plan),
            "bundle": "glpn-tiny",
            "onnx": "model.onnx",
            "onnx_sha256": "0" * 64,
            "precision": "fp32",
            "max_depth": 10.0,
            "size_multiple": 32,
            "tensorrt": self.trt.__version__,
            "cuda": "12.6",
            "gpu": "NVIDIA Test",
            "sm": "8.7",
            "profiles": profiles,
        }
        sidecar = Sidecar(**(about | changed))
        write_sidecar(sidecar, path)
        if not stranger:
            remember_engine(sidecar)
        return path
