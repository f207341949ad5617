"""``backend="auto"`` for ONNX files: which backend runs them here, and why.

The rule, within the precision asked for: TensorRT where a bundle has engines that were built for this GPU;
else ONNX Runtime where it has a GPU; bf16 on OpenVINO, which alone has it on a CPU; otherwise OpenVINO on
processors with AVX-512 (for INT8 with VNNI) and ONNX Runtime on those without, each where it is installed.
The measurements behind it are in docs/decisions/backends.md. `runtimes.measured` times both instead, and
what glpn-bench found here comes before the rule (`runtimes.remembered`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Collection, Sequence

from glpn_deploy.errors import GlpnError, InputError, MissingDependencyError, UnavailableError
from glpn_deploy.runtimes.base import Device, Precision, Reason, Runtime
from glpn_deploy.runtimes.measured import MeasuredRuntime
from glpn_deploy.runtimes.processor import cpu_flags, saturates_int8
from glpn_deploy.runtimes.registry import BACKENDS, require_backend

ENGINE_BACKENDS = tuple(name for name, backend in BACKENDS.items() if backend.runs == "engine")


@dataclasses.dataclass(frozen=True)
class Choice:
    """A backend that can run a source in the precision asked for.

    Attributes:
        backend: Its name.
        file: Precision of the file it runs.
        why: Why it comes first, as a clause; empty where it was asked for.
    """

    backend: str
    file: Precision
    why: str = ""


def choices(
    backend: str,
    precision: Precision,
    have: Collection[str],
    device: Device,
    what: str,
    engines: Sequence[str] = (),
) -> list[Choice]:
    """The backends that can run a source here, the one thought fastest first.

    Args:
        backend: ``auto`` or a name.
        precision: The precision asked for.
        have: Precisions that the source has files of.
        device: Where it shall run.
        what: The source, in words.
        engines: Backends of which engines of the precision lie beside the files.

    Returns:
        At least one, or none where no backend can give this precision from these files.

    Raises:
        InputError: The backend is none that runs ONNX files.
        MissingDependencyError: No backend that can is installed.
    """
    if backend == "auto" and engines and device != "cpu":
        first = [Choice(name, precision, f"{what} has engines for this GPU") for name in engines]
        with contextlib.suppress(MissingDependencyError):  # the engines may do without
            return [*first, *choices(backend, precision, have, device, what)]
        return first
    for_onnx = [name for name, about in BACKENDS.items() if about.runs == "onnx"]
    if backend not in ("auto", *for_onnx):
        expected = f"auto or one of {', '.join(for_onnx)}"
        fix = "build an engine of the bundle with glpn-build, and load that"
        fix = fix if backend in ENGINE_BACKENDS else ""
        raise InputError(f"the backend {backend!r} does not run {what}", expected=expected, fix=fix)
    names = for_onnx if backend == "auto" else [backend]
    able = [Choice(name, file) for name in names if (file := _file(name, precision, have)) is not None]
    if not able or backend != "auto":
        return able
    if device == "cuda":
        return [choice for choice in able if choice.backend == "onnxruntime"] or able
    installed = {choice.backend: choice for choice in able if BACKENDS[choice.backend].missing() is None}
    if not installed:
        require_backend(able[0].backend)
    if len(able) == 1:
        why = f"it alone has {precision} for {what} here"
        return [dataclasses.replace(able[0], why=why)]
    return _ordered(installed, precision, device)


def load(found: Sequence[Choice], open_choice: Callable[[Choice], Runtime], measure: bool) -> Runtime:
    """Loads the first choice that loads, or all of them to be measured on the first batch.

    Args:
        found: What `choices` gave.
        open_choice: Loads one.
        measure: Time all that load, and keep the fastest.

    Raises:
        GlpnError: None loads; what the first says that cannot give what was asked for, or else the last.
    """
    loaded: list[Runtime] = []
    failed: list[Reason] = []
    unavailable: UnavailableError | None = None
    for choice in found:
        try:
            runtime = open_choice(choice)
        except GlpnError as error:
            if unavailable is None and isinstance(error, UnavailableError):
                unavailable = error
            if choice is found[-1] and not loaded:
                raise (unavailable or error) from None
            failed.append(Reason(f"{choice.backend} does not load it ({error})"))
            continue
        taken = Reason(f"auto took {choice.backend}: {choice.why}", of_choice=True)
        runtime.reasons = (*((taken,) if choice.why else ()), *failed, *runtime.reasons)
        loaded.append(runtime)
        if not measure:
            break
    return loaded[0] if len(loaded) == 1 else MeasuredRuntime(loaded)


def _file(backend: str, precision: Precision, have: Collection[str]) -> Precision | None:
    """Which file a backend runs for a precision: OpenVINO needs none of its own for bf16 and FP16.

    In bf16 nothing overflows, and OpenVINO's own choice of what stays in FP32 is the fast one. An FP16
    file says which nodes must stay in FP32, so it is taken where there is one.
    """
    if backend == "openvino" and "fp32" in have and precision in ("bf16", "fp16"):
        return "fp16" if precision == "fp16" and "fp16" in have else "fp32"
    return precision if precision in have else None


def _ordered(installed: dict[str, Choice], precision: Precision, device: Device) -> list[Choice]:
    if device == "auto" and "onnxruntime" in installed and _has_cuda():
        first = dataclasses.replace(installed["onnxruntime"], why="it has CUDA here")
        return [first]
    flags = cpu_flags()
    order = ["openvino", "onnxruntime"]
    if precision == "bf16":
        why = "OpenVINO runs bf16 on a CPU"
    elif precision == "int8" and saturates_int8(flags):
        order.reverse()
        why = "OpenVINO's INT8 is not known to be faster without VNNI"
    elif flags is None or "avx512f" in flags:
        why = "OpenVINO is the faster one on AVX-512" if flags else "OpenVINO is often the faster one"
    else:
        order.reverse()
        why = "OpenVINO is no faster without AVX-512"
    order += [name for name in installed if name not in order]
    found = [installed[name] for name in order if name in installed]
    if found[0].backend != order[0]:
        why = f"{order[0]} is not installed and may be faster here: {BACKENDS[order[0]].install}"
    return [dataclasses.replace(found[0], why=why), *found[1:]]


def _has_cuda() -> bool:
    try:
        runtime = importlib.import_module("glpn_deploy.runtimes.rt_onnxruntime")
    except Exception:  # installed but broken: loading it says so
        return False
    return runtime.missing_provider_reason("CUDAExecutionProvider") is None
