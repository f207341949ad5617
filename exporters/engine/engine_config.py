"""What the builder is told: flags, profiles, memory limits and the rest, by what the version has."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

from glpn_deploy.bundle.engine_profile import Profile
from glpn_deploy.errors import ExportError, InputError
from glpn_deploy.exporters.engine.engine_options import EngineOptions
from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.gpu.tensorrt_rtx import NAME as RTX
from glpn_deploy.gpu.tensorrt_rtx import default_targets, unsupported_targets
from glpn_deploy.gpu.tensorrt_versions import TensorRT, unsupported
from glpn_deploy.runtimes.base import InputSpec, InputType

_ANOTHER_PRECISION = "build another precision: --precision fp16"
_OPTIONS = {
    "workspace_mb": "workspace",
    "tactic_dram_mb": "tactic-memory",
    "hardware_compatibility": "hardware-compatible",
}
_MIB = 1 << 20

# Shares of the memory that is free when the build begins, on GPUs that share it with the processor. What
# kernels are tried in counts host memory there, the parsed weights too: half of it starves the builder, which
# then skips kernels.
_WORKSPACE_SHARE, _TACTIC_SHARE = 1 / 4, 0.85
_LEAST_WORKSPACE = 256 * _MIB


def check_request(trt: TensorRT, options: EngineOptions, opset: int, device: CudaDevice | None) -> None:
    """Refuses what this TensorRT or this GPU cannot do, before anything is built.

    Args:
        device: The GPU; None where TensorRT for RTX compiles for others.
    """
    if opset > trt.max_opset:
        told = f"the graph is of opset {opset}, and {trt.title} reads up to {trt.max_opset}"
        if opset > trt.newest_tried:
            fix = f"export the bundle again: glpn-export CHECKPOINT --opset {min(trt.max_opset, 20)}"
            raise ExportError(told, fix=fix)
        warnings.warn(f"{told}, as documented: its parser is tried all the same", stacklevel=2)
    if device is None:
        check_targets(options)
        return
    reason = unsupported(trt, options.precision, device)
    if reason is not None:
        raise ExportError(reason, fix=_ANOTHER_PRECISION)
    for name in _wanted_flags(options):
        _require(trt, f"BuilderFlag.{name}")
    level = options.hardware_compatibility.upper()
    _require(trt, f"HardwareCompatibilityLevel.{level}")
    if level == "AMPERE_PLUS" and device.sm < (8, 0):
        raise ExportError(
            f"{device.title} is older than Ampere",
            expected="a GPU of compute capability 8.0 or later for hardware compatibility",
            fix="build without it",
        )
    _source_bits(trt, options)


def check_targets(options: EngineOptions) -> None:
    """Refuses what TensorRT for RTX does not do: kernels are chosen, and refitted, where the engine runs."""
    plain = EngineOptions(
        profiles=options.profiles, precision=options.precision, tf32=options.tf32, targets=options.targets
    )
    other = [
        f.name for f in dataclasses.fields(options) if getattr(options, f.name) != getattr(plain, f.name)
    ]
    if other:
        name = _OPTIONS.get(other[0], other[0].replace("_", "-"))
        raise InputError(
            f"--{name} with {RTX}",
            expected="shapes, precisions, --tf32 and --sm, which is all it is told",
            fix="leave the option out",
        )
    reason = unsupported_targets(options.precision, options.targets)
    if reason is not None:
        fitting = default_targets(options.precision)
        short = ",".join(target.replace(".", "") for target in fitting)
        raise ExportError(reason, fix=f"compile for others, --sm {short}, or {_ANOTHER_PRECISION}")


def fix_shape(tensor: Any, profiles: Sequence[Profile], taken: InputType = "float32") -> None:
    """Gives the network's input its only shape, where it has one alone: shapes behind it are constants."""
    if len(profiles) == 1 and profiles[0].min == profiles[0].max:
        tensor.shape = InputSpec(dtype=taken).tensor_shape(profiles[0].opt)


def add_profiles(
    builder: Any, config: Any, input_name: str, profiles: Sequence[Profile], taken: InputType = "float32"
) -> None:
    """Adds the optimisation profiles, in order."""
    spec = InputSpec(dtype=taken)
    for number, wanted in enumerate(profiles):
        profile = builder.create_optimization_profile()
        shapes = (spec.tensor_shape(shape) for shape in (wanted.min, wanted.opt, wanted.max))
        profile.set_shape(input_name, *shapes)
        if config.add_optimization_profile(profile) != number:
            raise ExportError(
                f"TensorRT refuses the profile {wanted.name}",
                expected="shapes that the ONNX file takes",
                fix="name other shapes with --size",
            )


def configure(
    trt: TensorRT,
    config: Any,
    options: EngineOptions,
    device: CudaDevice | None,
    network_flags: Sequence[str] = (),
) -> tuple[str, ...]:
    """Sets everything but the profiles and the timing cache.

    Args:
        network_flags: Flags that the network itself wants (`weak_typing_flags`).
    """
    flags = [*network_flags, *_wanted_flags(options)]
    for name in flags:
        config.set_flag(trt.member(f"BuilderFlag.{name}"))
    if not options.tf32:  # the default is on
        config.clear_flag(trt.member("BuilderFlag.TF32"))
    config.profiling_verbosity = trt.member("ProfilingVerbosity.DETAILED")  # precisions, for the inspector
    if device is None:
        config.num_compute_capabilities = len(options.targets)
        for number, target in enumerate(options.targets):
            capability = trt.member(f"ComputeCapability.SM{target.replace('.', '')}")
            if not config.set_compute_capability(capability, number):
                raise ExportError(f"{trt.title} refuses the target {target}", fix="leave it out of --sm")
        return tuple(flags)
    for pool, size in memory_limits(options, device).items():
        config.set_memory_pool_limit(trt.member(f"MemoryPoolType.{pool}"), size)
    config.builder_optimization_level = options.level
    if options.hardware_compatibility != "none":
        level = options.hardware_compatibility.upper()
        config.hardware_compatibility_level = trt.member(f"HardwareCompatibilityLevel.{level}")
    bits = _source_bits(trt, options)
    if bits is not None and not config.set_tactic_sources(bits):
        raise ExportError(
            f"TensorRT {trt.text} refuses the tactic sources {', '.join(options.tactic_sources or ())}",
            fix="leave --tactic-sources out",
        )
    return tuple(flags)


def memory_limits(options: EngineOptions, device: CudaDevice) -> dict[str, int]:
    """Limits of TensorRT's memory pools by name [bytes]; pools that keep their own limit are left out."""
    limits: dict[str, int] = {}
    free = device.free_bytes()
    if free is not None:
        limits["WORKSPACE"] = max(int(free * _WORKSPACE_SHARE), _LEAST_WORKSPACE)
        limits["TACTIC_DRAM"] = max(int(free * _TACTIC_SHARE), 2 * _LEAST_WORKSPACE)
    if options.workspace_mb is not None:
        limits["WORKSPACE"] = options.workspace_mb * _MIB
    if options.tactic_dram_mb is not None:
        limits["TACTIC_DRAM"] = options.tactic_dram_mb * _MIB
    return limits


def weak_typing_flags(trt: TensorRT, network: Any) -> tuple[str, ...]:
    """Makes a weakly typed network (TensorRT 8.6) compute in the graph's own types, as far as it can be told.

    A flag allows a precision everywhere. So layers that are FP32 in a graph of both types are bound to FP32;
    not around quantised layers, which would then not be fused.

    Returns:
        Names of builder flags; none where networks are strongly typed.
    """
    if trt.strongly_typed:
        return ()
    half, single = trt.member("DataType.HALF"), trt.member("DataType.FLOAT")
    quantising = {trt.member("LayerType.QUANTIZE"), trt.member("LayerType.DEQUANTIZE")}
    constant = trt.member("LayerType.CONSTANT")
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    outputs = [[layer.get_output(i) for i in range(layer.num_outputs)] for layer in layers]
    has_half = any(tensor.dtype == half for tensors in outputs for tensor in tensors)
    quantised = any(layer.type in quantising for layer in layers)
    flags = [name for name, wanted in (("FP16", has_half), ("INT8", quantised)) if wanted]
    if has_half and not quantised:
        for layer, tensors in zip(layers, outputs, strict=True):
            floats = [i for i, t in enumerate(tensors) if t.dtype == single and not t.is_shape_tensor]
            if floats and layer.type != constant:
                layer.precision = single
                for i in floats:
                    layer.set_output_type(i, single)
        flags.append("PREFER_PRECISION_CONSTRAINTS")
    return tuple(flags)


def _wanted_flags(options: EngineOptions) -> list[str]:
    """Builder flags that the options ask for, by TensorRT's names."""
    flags = []
    if options.version_compatible:
        flags += ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
    if options.strip:
        flags += ["STRIP_PLAN"] if options.refit else ["STRIP_PLAN", "REFIT_IDENTICAL"]
    if options.refit:
        flags.append("REFIT")
    if options.tf32:
        flags.append("TF32")
    if options.targets:
        flags.append("REQUIRE_USER_ALLOCATION")  # without it the engine cannot be captured as a CUDA graph
    return flags


# The version that brought a name.
_SINCE = {
    "STRIP_PLAN": "10.0",
    "REFIT_IDENTICAL": "10.0",
    "SAME_COMPUTE_CAPABILITY": "10.9",
}


def _require(trt: TensorRT, name: str) -> None:
    if not trt.has(name):
        short = name.partition(".")[2]
        since = f"TensorRT {_SINCE[short]} or later" if short in _SINCE else "another TensorRT"
        raise ExportError(
            f"TensorRT {trt.text} has no {short}", expected=since, fix="build without this option"
        )


def _source_bits(trt: TensorRT, options: EngineOptions) -> int | None:
    if options.tactic_sources is None:
        return None
    have = trt.member("TacticSource").__members__
    unknown = [name for name in options.tactic_sources if name.upper() not in have]
    if unknown:
        raise InputError(
            f"tactic source {unknown[0]!r}",
            expected=f"of TensorRT {trt.text}: {', '.join(name.lower() for name in have)}",
        )
    return sum(1 << int(have[name]) for name in {name.upper() for name in options.tactic_sources})
