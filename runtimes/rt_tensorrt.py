"""TensorRT: one engine on one GPU, without torch.

TensorRT is not imported before a GPU has been found and the engine has been checked: 8.6 ends the process
where there is no GPU, and a plan is executable code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.bundle import Bundle
from glpn_deploy.bundle.engine_fields import EngineBackend
from glpn_deploy.bundle.engine_profile import Profile, Shape
from glpn_deploy.bundle.engine_sidecar import (
    ENGINES,
    Sidecar,
    check_bundle,
    check_machine,
    read_plan,
    read_sidecar,
    rebuild_command,
)
from glpn_deploy.bundle.engine_trust import require_trusted
from glpn_deploy.bundle.identity import HeldFiles
from glpn_deploy.bundle.manifest import MANIFEST
from glpn_deploy.errors import BackendError, EngineError, InputError
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device
from glpn_deploy.gpu.tensorrt_rtx import import_tensorrt_rtx, rtx_of
from glpn_deploy.gpu.tensorrt_versions import TensorRT, import_tensorrt, known_problem, tensorrt_of
from glpn_deploy.runtimes.base import PRECISIONS, Reason, Runtime, RuntimeOptions, batch_shape
from glpn_deploy.runtimes.engine.context import EngineContext
from glpn_deploy.runtimes.engine.cuda_memory import Channel, Cuda
from glpn_deploy.runtimes.engine.device_array import DeviceDepth, take
from glpn_deploy.runtimes.engine.plan import Plan, device_memory, open_plan
from glpn_deploy.runtimes.engine.spec import engine_spec
from glpn_deploy.runtimes.onnx_file.artefact_file import artefact_path

_STAGES = ("host_to_device", "compute", "device_to_host")
_TOLERANCE = 1e-3  # of a graph's depth against the ordinary run's, of the largest depth


@dataclasses.dataclass(frozen=True)
class Checked:
    """An engine whose sidecar says that it belongs here; its content is checked when it is read.

    Attributes:
        path: The plan.
        sidecar: Its sidecar.
        device: The GPU.
        trt: The TensorRT that runs it.
        onnx: The bundle's file that it was built from, or None where it stands alone.
        held: The bundle's files that were checked, as they were.
    """

    path: Path
    sidecar: Sidecar
    device: CudaDevice
    trt: TensorRT
    onnx: Path | None
    held: HeldFiles = dataclasses.field(default_factory=HeldFiles, compare=False, repr=False)


def check(path: Path, trust: bool = False) -> Checked:
    """Finds out whether an engine belongs to this GPU, this TensorRT and the bundle it lies in.

    Args:
        path: The engine.
        trust: Whether it may come from someone else.

    Raises:
        EngineError: It does not, has no sidecar, or was not built here and is not trusted.
        BackendError: There is no GPU, or its driver or TensorRT is too old.
        MissingDependencyError: TensorRT is not installed.
    """
    sidecar = read_sidecar(path)
    device = find_device()
    trt = find_tensorrt(sidecar.backend)
    check_machine(path, sidecar, device, trt.text)
    require_trusted(path, sidecar, trust)
    onnx, held = None, HeldFiles()
    folder = path.parent.parent
    if path.parent.name == ENGINES and (folder / MANIFEST).is_file():
        bundle = Bundle.open(folder)
        held = bundle.held
        artefact = check_bundle(path, sidecar, bundle.manifest)
        if sidecar.max_depth != bundle.manifest.config.max_depth:
            raise EngineError(
                f"the sidecar of {path.name} says max_depth {sidecar.max_depth:g}",
                expected=f"{bundle.manifest.config.max_depth:g}, as the bundle's manifest says",
                fix=f"build it again: {rebuild_command(path, sidecar)}",
            )
        onnx = artefact_path(bundle, artefact) if sidecar.stripped else folder / artefact.file
    return Checked(path, sidecar, device, trt, onnx, held)


def find_tensorrt(backend: EngineBackend) -> TensorRT:
    """The TensorRT that runs a backend's engines; a GPU has been found before.

    Raises:
        BackendError: It is broken or too old, or the driver is too old for it.
        MissingDependencyError: It is not installed.
    """
    return tensorrt_of(import_tensorrt()) if backend == "tensorrt" else rtx_of(import_tensorrt_rtx())


class TensorRTRuntime(Runtime):
    """One engine.

    Every profile has an execution context, made when a shape first needs it; they share the memory for
    activations. Input and output have fixed places on both sides. A shape that comes twice in a row is
    captured as a CUDA graph, which is compared once with the ordinary run, and dropped where it differs;
    `describe` says which.

    Calls from several threads wait for each other; for more at a time, load it more than once.

    Args:
        engine: The engine, checked.
        options: Nothing in it changes an engine.
        graphs: Use CUDA graphs; `graphs` may be changed later.

    Raises:
        EngineError: The file was changed, or TensorRT does not take it.
        BackendError: There is no room for it, or CUDA cannot start.

    Attributes:
        profiles: The shapes it takes.
        graphs: Whether CUDA graphs are used.
    """

    backend = "tensorrt"

    def __init__(
        self,
        engine: Checked,
        options: RuntimeOptions = RuntimeOptions(),  # noqa: B008 - frozen
        graphs: bool = True,
    ) -> None:
        if options.device == "cpu":
            raise _gpus_only(self.backend)
        sidecar, self._path, self._engine = engine.sidecar, engine.path, engine
        self._trt, self.graphs = engine.trt.module, graphs
        self.device, self.max_depth = f"cuda:{engine.device.index}", sidecar.max_depth
        self.precision = next(name for name in PRECISIONS if name == sidecar.precision)
        problem = known_problem(engine.trt.version, sidecar.precision, engine.device.sm)
        self.reasons = (Reason(problem),) if problem else ()
        self._lock = threading.RLock()
        self._generation = 0
        self._last: EngineContext | None = None
        content = read_plan(engine.path, sidecar)
        self._weights_bytes = len(content) + (
            engine.onnx.stat().st_size if engine.onnx and sidecar.stripped else 0
        )
        with contextlib.ExitStack() as owner:  # frees what there is where a later step fails
            self._cuda = Cuda(engine.device.index)
            self._cuda.use()
            self._stream = self._cuda.stream(owner)
            self._marks = [self._cuda.event(owner) for _ in range(4)]
            plan = open_plan(self._trt, content, engine.path, sidecar, engine.onnx)
            del content
            if sidecar.stripped:  # the weights were read by path
                engine.held.require_unchanged()
            self._plan = self._configured(plan, options, owner)
            self.profiles = self._plan.profiles
            self.spec = self._shapes = engine_spec(
                self.profiles,
                sidecar.size_multiple,
                engine.path.name,
                functools.partial(_rebuild_command, engine),
                self._plan.source.taken,
            )
            pixels = max(int(np.prod(profile.max)) for profile in self.profiles)
            source, target = self._plan.source.dtype.itemsize, self._plan.target.dtype.itemsize
            mapped = engine.device.integrated
            self._input = Channel(self._cuda, owner, 3 * pixels * source, mapped)
            self._output = Channel(self._cuda, owner, pixels * target, mapped)
            scratch = device_memory(self._plan.engine)
            self._scratch = (self._cuda.allocate(owner, max(scratch, 1)), scratch)
            self._contexts: dict[int, EngineContext] = {}
            owner.callback(_close_all, self._contexts)
            owner.callback(self._cuda.release, "cuStreamSynchronize", self._stream)  # first of all
            self._context(0)
            # Also where it is forgotten, and before Python takes CUDA's modules down.
            self._finalizer = weakref.finalize(self, _free, self._cuda, owner.pop_all())

    def warm_up(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As of any runtime: the second run of a shape captures its CUDA graph."""
        self.run_unchecked(pixel_values)
        return super().warm_up(pixel_values)

    def run_timed(self, pixel_values: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """As `run`, with the GPU's own times of its stages.

        Returns:
            The depth, and ``host_to_device``, ``compute`` and ``device_to_host`` [ms]. On an integrated GPU
            nothing is copied by the GPU, and the first and last are next to 0.

        Raises:
            InputError: The array is not one this runtime takes.
            BackendError: The backend failed, or is closed.
        """
        with self._turn():
            depth = self._run(self.spec.check(pixel_values), timed=True)
            spans = itertools.pairwise(self._marks)
            times = [self._cuda.call("cuEventElapsedTime", start, end) for start, end in spans]
        return depth, {name: float(ms) for name, ms in zip(_STAGES, times, strict=True)}

    def run_device(self, pixel_values: Any) -> DeviceDepth:
        """Runs a batch that is already on the GPU.

        Args:
            pixel_values: ``(N, 3, H, W)`` in C order on this device, float32, or float16 for an engine whose
                input is; ``(N, H, W, 3)`` uint8 for one that takes images. Of any library that has
                ``__dlpack__`` or ``__cuda_array_interface__``. What its producer has still to do on its own
                stream is waited for.

        Returns:
            The depth on the GPU, done, and valid until this runtime's next call.

        Raises:
            InputError: It is no array on this GPU that this runtime takes.
            BackendError: The backend failed, or is closed.
        """
        with self._turn(), contextlib.ExitStack() as owner:
            found = take(pixel_values, self._cuda, self._stream, owner)
            dtype, shape = self._plan.source.dtype, self.spec.images_shape(found.shape)
            if shape is None or found.dtype != dtype:
                raise InputError(
                    f"pixel_values has shape {found.shape} and dtype {found.dtype}",
                    expected=f"{dtype} {'(N, H, W, 3)' if dtype == np.uint8 else '(N, 3, H, W)'}",
                )
            context = self._prepare(shape)
            nbytes = int(np.prod(found.shape)) * dtype.itemsize
            self._cuda.call("cuMemcpyAsync", self._input.address, found.address, nbytes, self._stream)
            context.enqueue(self.graphs)
            self._cuda.synchronize(self._stream)
            if self.graphs and context.wants_graph:
                self._capture(context, self._fetch(context))
            return self._lend(context)

    def describe(self) -> dict[str, Any]:
        """As of any runtime, with the engine, what ran last, and the device memory that it takes."""
        with self._lock:
            taken = 0 if self._closed else self._scratch[1]
            buffers = 0 if self._closed else sum(c.nbytes for c in (self._input, self._output))
            weights = 0 if self._closed else self._weights_bytes
            about: dict[str, Any] = {
                "engine": self._path.name,
                "tensorrt": self._engine.sidecar.tensorrt,
                "gpu": self._engine.device.name,
                "profiles": [profile.name for profile in self.profiles],
                "zero_copy": self._input.mapped,
                "device_memory_bytes": {
                    "weights": weights,  # the plan's size, which is mostly weights
                    "activations": taken,
                    "buffers": buffers,
                    "total": weights + taken + buffers,
                },
            }
            if self._last is not None and self._last.shape is not None:
                about["last"] = {
                    "profile": self._last.profile.name,
                    "shape": list(self._last.shape),
                    "cuda_graph": self._last.graph_note if self.graphs else "switched off",
                }
            return super().describe() | about

    def _configured(self, plan: Plan, options: RuntimeOptions, owner: contextlib.ExitStack) -> Plan:
        """The plan with what its contexts are made with; ``owner`` is closed after them."""
        return plan

    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        return self._run(pixel_values, timed=False)

    def _run(self, pixel_values: NDArray[Any], timed: bool) -> NDArray[np.float32]:
        with self._turn():
            context = self._prepare(batch_shape(pixel_values))
            staged = self._input.host(pixel_values.shape, self._plan.source.dtype)
            np.copyto(staged, pixel_values, casting="same_kind")
            self._mark(0, timed)
            self._input.upload(staged.nbytes, self._stream)
            self._mark(1, timed)
            context.enqueue(self.graphs)
            self._mark(2, timed)
            depth = self._fetch(context, timed)
            if self.graphs and context.wants_graph:
                self._capture(context, depth)
            return depth

    def _fetch(self, context: EngineContext, timed: bool = False) -> NDArray[np.float32]:
        """Waits for the output and copies it."""
        assert context.shape is not None
        dtype = self._plan.target.dtype
        self._output.download(int(np.prod(context.shape)) * dtype.itemsize, self._stream)
        self._mark(3, timed)
        self._cuda.synchronize(self._stream)
        depth: NDArray[np.float32] = self._output.host(context.shape, dtype).astype(np.float32)
        return depth

    def _mark(self, index: int, timed: bool) -> None:
        if timed:
            self._cuda.call("cuEventRecord", self._marks[index], self._stream)

    def _capture(self, context: EngineContext, expected: NDArray[np.float32]) -> None:
        """Captures a graph and replays it on the same input, in an output that was made NaN before."""
        if not np.isfinite(expected).all():
            context.refuse_graph("not checked: the ordinary run gave numbers that are not finite")
            return
        if not context.capture():
            return
        self._output.spoil(expected.size * self._plan.target.dtype.itemsize, self._stream)
        context.enqueue(True)
        replayed = self._fetch(context)
        worst = float(np.max(np.abs(replayed - expected)))
        if not worst <= _TOLERANCE * float(np.abs(expected).max()):
            context.refuse_graph(f"dropped: it differed from the ordinary run by {worst:.3g} m")
            context.enqueue(False)  # the output may be lent out
            self._cuda.synchronize(self._stream)

    def _prepare(self, shape: Shape) -> EngineContext:
        """The context of a shape, set to it; the output of the last run is given up."""
        self._generation += 1
        self._last = self._context(self._shapes.index(shape))
        self._last.set_shape(shape)
        return self._last

    def _context(self, index: int) -> EngineContext:
        if index not in self._contexts:
            channels = (self._input, self._output)
            self._contexts[index] = EngineContext(
                self._cuda, self._trt, self._plan, index, self._stream, channels, self._scratch
            )
        return self._contexts[index]

    def _lend(self, context: EngineContext) -> DeviceDepth:
        generation, shape = self._generation, context.shape
        assert shape is not None

        def valid() -> bool:
            return not self._closed and self._generation == generation

        def fetch() -> NDArray[np.float32]:
            with self._turn():
                return self._fetch(context)

        where = self._output.address
        return DeviceDepth(where, shape, self._plan.target.dtype, self._cuda.index, valid, fetch)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One thread at a time, on the device, and nothing left on the stream where it fails."""
        with self._lock:
            if self._closed:
                raise BackendError(f"the {self.backend} runtime is closed", fix="load it again")
            self._cuda.use()
            try:
                yield
            except BaseException:
                self._cuda.release("cuStreamSynchronize", self._stream)
                raise

    def close(self) -> None:
        """Frees everything; waits for a run of another thread."""
        with self._lock:
            super().close()

    def _free(self) -> None:
        self._last = None
        self._finalizer()
        del self._plan


def _free(cuda: Cuda, owner: contextlib.ExitStack) -> None:
    with contextlib.suppress(BackendError):  # a GPU that has failed; the rest is freed all the same
        cuda.use()
    owner.close()


def _close_all(contexts: dict[int, EngineContext]) -> None:
    for context in contexts.values():
        context.close()
    contexts.clear()


def _rebuild_command(engine: Checked, shape: Shape) -> str:
    profiles = (*engine.sidecar.profiles, Profile.fixed(shape))
    return rebuild_command(engine.path, engine.sidecar, profiles)


def _gpus_only(backend: str) -> BackendError:
    return BackendError(f"the {backend} backend runs on NVIDIA GPUs only", fix='use device="cuda"')


def load(
    path: Path | None, options: RuntimeOptions, kind: type[TensorRTRuntime] = TensorRTRuntime
) -> Runtime:
    """Loads an ``.engine`` file that has its sidecar beside it, and is one of the backend ``kind``."""
    if path is None:
        raise EngineError(
            f"the {kind.backend} backend was given no .engine file", fix="build one with glpn-build"
        )
    if options.device == "cpu":
        raise _gpus_only(kind.backend)
    sidecar = read_sidecar(path)
    if sidecar.backend != kind.backend:
        raise EngineError(
            f"{path.name} is an engine of the backend {sidecar.backend}, not of {kind.backend}",
            fix=f"load it with the backend {sidecar.backend}",
        )
    return kind(check(path, options.trust_engines), options)
