"""Several engines as one runtime, chosen by shape, and an ONNX runtime for shapes that none takes."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.bundle.engine_profile import Profile, Shape, choose_profile, spell
from glpn_deploy.bundle.engine_sidecar import ENGINES, bundle_engines, read_sidecar, rebuild_command
from glpn_deploy.errors import BackendError, EngineError, GlpnError
from glpn_deploy.runtimes.base import InputSpec, Precision, Reason, Runtime, RuntimeOptions, batch_shape
from glpn_deploy.runtimes.engine.device_array import DeviceDepth, shape_of
from glpn_deploy.runtimes.engine.spec import engine_spec, filled_shape
from glpn_deploy.runtimes.rt_tensorrt import Checked, TensorRTRuntime, check, load
from glpn_deploy.runtimes.rt_tensorrt_rtx import TensorRTForRTXRuntime


@dataclasses.dataclass(frozen=True)
class Part:
    """An engine that can be opened."""

    name: str
    profiles: tuple[Profile, ...]
    open: Callable[[], Runtime]


class EngineSet(Runtime):
    """Runs every batch on the engine with the tightest profile that holds it.

    The first engine that opens is opened at once, the others when a shape first needs them, and so is the
    fallback. An engine that does not open is left out from then on. A batch that is smaller than any engine
    takes at its size is filled up with its first image, as `DepthEstimator` does for an engine of a fixed
    batch: the spec cannot name that batch to it, since sizes have different ones and the fallback has none.
    `why` and `describe` say what was left out, and when the fallback ran.

    Args:
        parts: The engines; at least one.
        fallback: Loads a runtime that takes every shape; None refuses shapes that no engine takes.
    """

    backend = "tensorrt"

    def __init__(
        self,
        parts: Sequence[Part],
        precision: Precision,
        max_depth: float,
        multiple: int = 32,
        rebuild: Callable[[Shape], str] | None = None,
        fallback: Callable[[], Runtime] | None = None,
    ) -> None:
        self._parts, self._fallback = list(parts), fallback
        self._rebuild = rebuild
        self.precision, self.max_depth = precision, max_depth
        self._lock = threading.Lock()
        self._opened: dict[str, Runtime] = {}
        self._spare: Runtime | None = None
        self._last: tuple[str, Runtime] | None = None
        first = self._open_first()
        self.device = first.device
        self.reasons = (*first.reasons, *self.reasons)
        dtype = first.spec.dtype  # that of the artefact they were all built from
        shapes = engine_spec(self._profiles(), multiple, "the engines here", rebuild, dtype)
        self._shapes = dataclasses.replace(shapes, fills=True)
        limits = InputSpec(size_multiple=multiple, max_batch=shapes.max_batch, dtype=dtype)
        self.spec = self._shapes if fallback is None else limits

    def run_device(self, pixel_values: Any) -> DeviceDepth:
        """Runs a batch that is already on the GPU: see `TensorRTRuntime.run_device`.

        Raises:
            InputError: It is no array on this GPU, or of a shape that no engine takes.
            BackendError: The backend failed, or is closed.
        """
        shape = self.spec.images_shape(shape_of(pixel_values)) or self._parts[0].profiles[0].opt
        runtime = self._engine(shape)
        if runtime is None:
            raise self._shapes.outside(shape)
        assert isinstance(runtime, TensorRTRuntime)
        return runtime.run_device(pixel_values)

    def describe(self) -> dict[str, Any]:
        """As of any runtime, with the engines that are open, what ran last, and the device memory of all."""
        with self._lock:
            opened, spare, last = dict(self._opened), self._spare, self._last
        engines = {part.name: [profile.name for profile in part.profiles] for part in self._parts}
        about: dict[str, Any] = {"engines": engines, "open": sorted(opened)}
        told = [runtime.describe().get("device_memory_bytes") for runtime in opened.values()]
        memory = [entry["total"] for entry in told if entry is not None]
        if memory:
            about["device_memory_bytes"] = {"total": sum(memory)}
        if spare is not None:
            about["fallback"] = spare.describe()
        if last is not None:
            about["last"] = {"ran": last[0], **last[1].describe().get("last", {})}
        return super().describe() | about

    def warm_up(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        """As of any runtime: opens and warms up what runs the shape."""
        runtime, filled = self._filled(self._checked(pixel_values))
        return runtime.warm_up(filled)[: len(pixel_values)]

    def _infer(self, pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        runtime, filled = self._filled(pixel_values)
        return runtime.run_unchecked(filled)[: len(pixel_values)]

    def _filled(self, pixel_values: NDArray[Any]) -> tuple[Runtime, NDArray[Any]]:
        """What runs a batch, and the batch filled up to what that takes."""
        shape = batch_shape(pixel_values)
        runtime, larger = self._engine(shape), shape
        while runtime is None and (filled := filled_shape(self._profiles(), shape)) is not None:
            runtime, larger = self._engine(filled), filled
        if runtime is None:
            return self._fall_back(shape), pixel_values
        missing = larger[0] - shape[0]
        if missing:
            pixel_values = np.concatenate([pixel_values, np.repeat(pixel_values[:1], missing, axis=0)])
        return runtime, pixel_values

    def _profiles(self) -> list[Profile]:
        with self._lock:
            return [profile for part in self._parts for profile in part.profiles]

    def _open_first(self) -> Runtime:
        """Opens the first engine that opens; those before it are left out, with a note."""
        failed: list[GlpnError] = []
        while self._parts:
            try:
                return self._open(self._parts[0])
            except GlpnError as error:
                self._leave_out(self._parts[0], error)
                failed.append(error)
        if len({error.got for error in failed}) == 1:  # of the only engine, or of the machine
            raise failed[0]
        kind = EngineError if all(isinstance(error, EngineError) for error in failed) else BackendError
        raise kind(f"no engine opens: {self.why}", fix=failed[0].fix)

    def _engine(self, shape: Shape) -> Runtime | None:
        """The engine for a shape, opened, or None where none takes it."""
        with self._lock:
            self._check_open()
            while (part := self._part(shape)) is not None:
                try:
                    runtime = self._open(part)
                except GlpnError as error:
                    if self._fallback is None and self._part(shape, but=part) is None:
                        raise
                    self._leave_out(part, error)
                else:
                    self._last = (part.name, runtime)
                    return runtime
            return None

    def _part(self, shape: Shape, but: Part | None = None) -> Part | None:
        choice = [(part, profile) for part in self._parts for profile in part.profiles if part is not but]
        index = choose_profile([profile for _, profile in choice], shape)
        return None if index is None else choice[index][0]

    def _check_open(self) -> None:
        if self._closed:  # by another thread, after `run` has looked
            raise BackendError(f"the {self.backend} runtime is closed", fix="load it again")

    def _open(self, part: Part) -> Runtime:
        if part.name not in self._opened:
            self._opened[part.name] = part.open()
        return self._opened[part.name]

    def _fall_back(self, shape: Shape) -> Runtime:
        if self._fallback is None:
            raise self._shapes.outside(shape)
        with self._lock:
            self._check_open()
            if self._spare is None:
                self._spare = self._fallback()
                command = "" if self._rebuild is None else f"; {self._rebuild(shape)} builds an engine for it"
                self._note(
                    f"a batch of {spell(shape)} fits no engine and ran on {self._spare.backend} "
                    f"({self._spare.device}, {self._spare.precision}){command}"
                )
            self._last = (f"{self._spare.backend} (fallback)", self._spare)
            return self._spare

    def _leave_out(self, part: Part, error: GlpnError) -> None:
        self._parts.remove(part)
        self._note(f"{part.name} does not open ({error})")

    def _note(self, text: str) -> None:
        self.reasons = (*self.reasons, Reason(text))

    def _free(self) -> None:
        with self._lock, contextlib.ExitStack() as owner:
            for runtime in (*self._opened.values(), *([self._spare] if self._spare else [])):
                owner.callback(runtime.close)
            self._opened.clear()
            self._spare = self._last = None


_KINDS = {kind.backend: kind for kind in (TensorRTRuntime, TensorRTForRTXRuntime)}


def engines_of(folder: Path, precision: Precision, backend: str = "tensorrt") -> list[Path]:
    """A bundle's engines of a precision and backend.

    Those whose sidecar cannot be read are among TensorRT's: trying them says why.
    """
    kinds = _engine_kinds(folder)
    return [path for path, kind in kinds.items() if kind in ((precision, backend), ("", backend))]


def _engine_kinds(folder: Path) -> dict[Path, tuple[str, str]]:
    """Precision and backend of a bundle's engines; no precision where the sidecar cannot be read."""
    found: dict[Path, tuple[str, str]] = {}
    for path in bundle_engines(folder):
        try:
            sidecar = read_sidecar(path)
            found[path] = sidecar.precision, sidecar.backend
        except EngineError:
            found[path] = "", "tensorrt"
    return found


def load_engine(path: Path, options: RuntimeOptions) -> Runtime:
    """Loads an ``.engine`` file on the backend that its sidecar names."""
    return load(path, options, _KINDS[read_sidecar(path).backend])


def open_engines(
    folder: Path,
    precision: Precision,
    max_depth: float,
    options: RuntimeOptions,
    fallback: Callable[[], Runtime] | None = None,
    backend: str = "tensorrt",
) -> EngineSet:
    """Opens those of a bundle's engines that were built for this machine.

    Args:
        fallback: Loads a runtime for the shapes that none takes; None refuses them.

    Raises:
        EngineError: There is none; says why each was refused.
        BackendError: There is no GPU, or TensorRT or CUDA cannot start.
        MissingDependencyError: TensorRT is not installed.
    """
    command = f"{rebuild_command(folder / ENGINES / 'any.engine')} --precision {precision}"
    command += " --rtx" if backend == "tensorrt_rtx" else ""
    if options.device == "cpu":
        raise BackendError("TensorRT engines run on NVIDIA GPUs only", fix='use device="cuda"')
    checked: list[Checked] = []
    refused: list[str] = []
    for path in engines_of(folder, precision, backend):
        try:
            checked.append(check(path, options.trust_engines))
        except EngineError as error:
            refused.append(error.got)
    if not checked:
        kind = "" if backend == "tensorrt" else f" for {backend}"
        theirs = {built for built, product in _engine_kinds(folder).values() if product == backend}
        have = sorted(theirs - {precision, ""})
        reasons = "; ".join(refused) or f"{folder} has no {precision} engine{kind}"
        if have and not refused:
            ask = f"--precision {have[0]}, or precision={have[0]!r} in Python"
            reasons += f" (it has {', '.join(have)}: ask for {ask})"
        raise EngineError(reasons, fix=f"build one here: {command}")

    def part(engine: Checked) -> Part:
        return Part(engine.path.name, engine.sidecar.profiles, lambda: _KINDS[backend](engine, options))

    first = checked[0]

    def rebuild(shape: Shape) -> str:
        return rebuild_command(first.path, first.sidecar, (*first.sidecar.profiles, Profile.fixed(shape)))

    multiple = max(engine.sidecar.size_multiple for engine in checked)
    runtime = EngineSet(
        [part(engine) for engine in checked], precision, max_depth, multiple, rebuild, fallback
    )
    runtime.backend = backend
    if refused:
        runtime._note(f"not used: {'; '.join(refused)}")
    return runtime
