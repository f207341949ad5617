"""typed ONNX -> engine: TensorRT for the GPU of this machine, TensorRT for RTX for the cards of others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy import progress
from glpn_deploy.atomic import atomic_path
from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import BackendError, ExportError
from glpn_deploy.exporters.engine.build_messages import build_failure, parser_refusal, quoted, told_warnings
from glpn_deploy.exporters.engine.engine_config import (
    add_profiles,
    check_request,
    configure,
    fix_shape,
    weak_typing_flags,
)
from glpn_deploy.exporters.engine.engine_inspect import (
    UNKNOWN,
    inspect_engine,
    layer_precisions,
    require_precision,
)
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.exporters.engine.engine_progress import UNITS, Watch, make_monitor, run_cancellable
from glpn_deploy.exporters.engine.engine_source import EngineSource, read_source
from glpn_deploy.exporters.engine.explain import Explanation, kernels_of
from glpn_deploy.exporters.engine.kernel_log import read_kernel_log
from glpn_deploy.exporters.engine.timing_cache import (
    attach_timings,
    read_timings,
    timing_file,
    write_timings,
)
from glpn_deploy.gpu.cuda_device import CudaDevice, find_device
from glpn_deploy.gpu.tensorrt_rtx import import_tensorrt_rtx, invalidity, rtx_of
from glpn_deploy.gpu.tensorrt_versions import TensorRT, collecting_logger, import_tensorrt, tensorrt_of
from glpn_deploy.runtimes.base import InputType

__all__ = ["EngineOptions", "EngineReport", "explain_onnx", "to_engine"]


@dataclasses.dataclass(frozen=True)
class EngineReport:
    """What came out of a build.

    Attributes:
        layers: Computing layers by precision, as the inspector tells.
        flags: Builder flags that were set, by TensorRT's names.
        build_s: Time that building took [s].
        tensorrt: TensorRT's version.
        cuda: CUDA version of the driver.
        bytes: Size of the plan.
        tf32: Whether FP32 products may be rounded to TF32.
        device_memory_bytes: Memory that one execution context takes beside the weights, or None where the
            version does not tell.
        warnings: TensorRT's warnings, each once and in one line, the first 256; kernels that were not tried
            for lack of memory are counted in the first.
    """

    layers: dict[str, int]
    flags: tuple[str, ...]
    build_s: float
    tensorrt: str
    cuda: str
    bytes: int
    tf32: bool
    device_memory_bytes: int | None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Read:
    """What is known of a plan: its layers in the inspector's form, and memory [bytes] where it is told."""

    layers: Sequence[Mapping[str, Any]]
    device_memory_bytes: int | None
    weights_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class _Built:
    plan: Any  # an IHostMemory, readable as a buffer
    flags: tuple[str, ...]
    read: _Read
    timing_cache: Any
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        told = ", ".join(f"{count} layers in {name}" for name, count in self.layers.items())
        return f"{memoryview(self.plan).nbytes / 2**20:.1f} MiB, {told}"

    @property
    def layers(self) -> dict[str, int]:
        """Computing layers by precision."""
        return layer_precisions(self.read.layers)


def to_engine(
    source: Path,
    target: Path,
    options: EngineOptions = EngineOptions(),
) -> EngineReport:
    """Builds one engine and looks whether it computes in what the graph promises.

    Ctrl-C ends the build at TensorRT's next step; on 8.6, which has no way to be told, it is left to a
    background thread, whose result is dropped.

    Args:
        source: A typed ONNX file that this package wrote.
        target: Where the plan shall stand: TensorRT's own bytes and nothing else; replaced whole or not
            at all.
        options: How.

    Returns:
        What was built.

    Raises:
        BundleError: The source is missing, damaged, or names files outside its folder.
        BackendError: There is no GPU, or no TensorRT that can be used.
        ExportError: The version or the GPU cannot do what is asked, the parser or the builder fails, memory
            runs out, or no layer computes in the precision promised.
        WriteError: The plan could not be written.
    """
    graph = read_source(source)
    trt, device = _compiler(options, graph)
    timing_cache = timing_file(options.timing_cache, trt, device)
    timings = read_timings(timing_cache)
    start = time.perf_counter()
    with atomic_path(target) as temporary:
        built = _compile(trt, graph, options, device, timings)
        build_s = time.perf_counter() - start
        with temporary.open("wb") as file:
            size = file.write(built.plan)
        if timing_cache is not None and built.timing_cache is not None:
            write_timings(timing_cache, built.timing_cache)
    return EngineReport(
        layers=built.layers,
        flags=built.flags,
        build_s=build_s,
        tensorrt=trt.text,
        cuda="" if device is None else device.cuda,
        bytes=size,
        tf32=options.tf32,
        device_memory_bytes=built.read.device_memory_bytes,
        warnings=built.warnings,
    )


def explain_onnx(
    source: Path,
    options: EngineOptions = EngineOptions(),
) -> Explanation:
    """Compiles an ONNX file as `to_engine` does, and tells of the engine instead of keeping it.

    It is compiled for the first profile's optimum alone: of changing shapes no traffic is told.

    Raises:
        GlpnError: As `to_engine`.
    """
    graph = read_source(source)
    shape = options.profiles[0].opt
    options = dataclasses.replace(options, profiles=(Profile.fixed(shape),))
    trt, device = _compiler(options, graph)
    built = _compile(trt, graph, options, device, None)
    where = ", ".join(options.targets) if device is None else f"{device.name} ({device.capability})"
    return Explanation(
        title=source.name,
        target=f"{trt.title}, compute capability {where}" if device is None else f"{trt.title}, {where}",
        shape=shape,
        kernels=kernels_of(built.read.layers),
        weights_bytes=built.read.weights_bytes,
        scratch_bytes=built.read.device_memory_bytes,
        plan_bytes=memoryview(built.plan).nbytes,
        layers=built.layers,
    )


def _compiler(options: EngineOptions, graph: EngineSource) -> tuple[TensorRT, CudaDevice | None]:
    """The TensorRT to build with, once it has been found able; the GPU, where it builds for one that is here.

    Raises:
        GlpnError: It cannot do what is asked, or is not here.
    """
    if options.targets:
        trt, device = rtx_of(import_tensorrt_rtx()), None
    else:
        device = find_device()  # before TensorRT is imported: without a GPU its calls can end the process
        trt = tensorrt_of(import_tensorrt())
    check_request(trt, options, graph.opset, device)
    return trt, device


def _compile(
    trt: TensorRT,
    graph: EngineSource,
    options: EngineOptions,
    device: CudaDevice | None,
    timings: bytes | None,
) -> _Built:
    """Builds as a step of the progress that can be interrupted."""
    monitored = trt.has("IProgressMonitor")
    with progress.step(f"{trt.name} {options.precision}", UNITS if monitored else None) as step:
        watch = Watch(step)
        built = run_cancellable(
            lambda: _build(trt, graph, options, device, watch, timings), watch, heeded=monitored
        )
        step.finish(str(built))
    return built


def _build(
    trt: TensorRT,
    graph: EngineSource,
    options: EngineOptions,
    device: CudaDevice | None,
    watch: Watch,
    timings: bytes | None,
) -> _Built:
    """Everything that TensorRT does; writes nothing."""
    log = collecting_logger(trt.module, details=device is None)
    try:
        return _build_logged(trt, graph, options, device, watch, timings, log)
    except (MemoryError, RuntimeError) as error:  # what the bindings raise
        log.errors.append(str(error) or type(error).__name__)
        raise build_failure(trt.name, log.errors, options, device, graph) from error


def _build_logged(
    trt: TensorRT,
    graph: EngineSource,
    options: EngineOptions,
    device: CudaDevice | None,
    watch: Watch,
    timings: bytes | None,
    log: Any,
) -> _Built:
    module = trt.module
    try:
        builder = module.Builder(log)
    except TypeError as error:  # pybind11: the factory returned nothing
        where = "here" if device is None else f"on {device.name}"
        raise BackendError(
            f"{trt.title} does not start {where}{quoted(log.errors)}",
            fix="free the GPU's memory, and see in glpn-doctor whether driver and TensorRT suit each other",
        ) from error
    network = builder.create_network(trt.network_flags())
    _parse(module, network, graph, log)
    images = network.get_input(0)
    taken: InputType = "uint8" if images.dtype == trt.member("DataType.UINT8") else "float32"
    fix_shape(images, options.profiles, taken)
    config = builder.create_builder_config()
    flags = configure(trt, config, options, device, weak_typing_flags(trt, network))
    add_profiles(builder, config, images.name, options.profiles, taken)
    cache = attach_timings(config, timings)
    monitor = make_monitor(module, watch)  # must outlive the build
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise build_failure(trt.name, log.errors, options, device, graph)
    saved = None if cache is None else config.get_timing_cache().serialize()
    read = (
        _read_log(module, plan, log) if device is None else _read_engine(module, plan, log, options, device)
    )
    layers = layer_precisions(read.layers)
    if not options.strip or set(layers) - {UNKNOWN}:  # without weights it may tell nothing
        require_precision(layers, options.precision)
    return _Built(plan, flags, read, saved, told_warnings(log.warnings))


def _read_engine(module: Any, plan: Any, log: Any, options: EngineOptions, device: CudaDevice) -> _Read:
    """Loads what TensorRT built, and asks its inspector."""
    engine = module.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise ExportError(f"TensorRT cannot load the engine that it built{quoted(log.errors)}")
    layers = inspect_engine(module, engine, None if options.strip else options.profiles[0].opt)
    memory = getattr(engine, "device_memory_size_v2", None)
    if memory is None:  # before 10.1
        memory = getattr(engine, "device_memory_size", None)
    return _Read(layers, None if memory is None else int(memory))


def _read_log(trt: Any, plan: Any, log: Any) -> _Read:
    """Reads the header of what TensorRT for RTX built, and its log: loading it would take a GPU."""
    faults = invalidity(trt, trt.Runtime(log), plan)
    if faults:
        raise ExportError(f"TensorRT for RTX does not take the engine that it built: {', '.join(faults)}")
    told = read_kernel_log(log.details)
    return _Read(told.layers, told.activation_bytes, told.weights_bytes)


def _parse(module: Any, network: Any, graph: EngineSource, log: Any) -> None:
    parser = module.OnnxParser(network, log)
    if parser.parse_from_file(str(graph.path)):
        if network.num_inputs != 1 or network.num_outputs != 1:
            raise ExportError(
                f"{graph.path.name} has {network.num_inputs} inputs and {network.num_outputs} outputs",
                expected="one image batch in and one depth batch out",
            )
        return
    raise parser_refusal([parser.get_error(n) for n in range(parser.num_errors)], graph)
