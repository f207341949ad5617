"""What glpn-export refuses before the long work: options that do nothing, engines it cannot build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from glpn_deploy.precisions import LOWER_PRECISIONS, PRECISION_INFO, QUANTIZED_PRECISIONS

if TYPE_CHECKING:
    from glpn_deploy.exporters.typed_qdq import Target
    from glpn_deploy.precisions import Precision

LOWER_PANEL = "Lower precisions"
"""The help panel of the options that only count beside a lower precision."""


def refuse_idle_options(context: typer.Context, asked: Sequence[Precision]) -> None:
    """Refuses options that were given and would do nothing.

    Args:
        context: The command's, which knows what was typed.
        asked: The lower precisions.

    Raises:
        InputError: There is one; the message says what it needs beside it.
    """
    from glpn_deploy.errors import InputError

    typed = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        lower = (
            getattr(option, "rich_help_panel", None) == LOWER_PANEL and option.name not in LOWER_PRECISIONS
        )
        # by its name: newer typers have a click of their own
        if lower and source is not None and source.name == "COMMANDLINE":
            off = context.params.get(option.name or "") is False and option.secondary_opts
            typed[option.name] = (option.secondary_opts if off else option.opts)[0]
    if typed and not asked:
        names = " and ".join(typed.values())
        raise InputError(
            f"{names} without a lower precision",
            expected="--fp16, --bf16, --int8 or --fp8 beside it",
            fix=f"add --fp16, or leave out {names}",
        )
    calibrates = ("--int8 or --fp8", bool({*QUANTIZED_PRECISIONS} & {*asked}))
    by_percentile = context.params["calibration_method"] == "percentile"
    needs = {
        "calibration_method": calibrates,
        "calibration_images": calibrates,
        "calibration_percentile": ("--calibration-method percentile", by_percentile),
        "target": calibrates,
        "eval_path": ("--eval", "eval_dataset" in typed),
    }
    for name, (what, there) in needs.items():
        if name in typed and not there:
            raise InputError(
                f"{typed[name]} without {what}, where it does nothing",
                fix=f"add {what}, or leave out {typed[name]}",
            )


def require_engines(asked: Sequence[Precision], opset: int, target: Target, *, verify: bool) -> None:
    """Refuses what `exporters.engines.build_engine` would refuse after the export.

    Args:
        asked: The lower precisions; an engine each, or of FP32 where there are none.
        opset: The opset asked for; a precision takes its own where that is later.
        target: What INT8 is for.
        verify: Whether the engines will be compared with the reference.

    Raises:
        BackendError: There is no usable GPU or TensorRT.
        ExportError: The GPU or the TensorRT has no such precision.
        InputError: TensorRT does not read an opset, would run a graph for CPUs, or has to be verified.
    """
    from glpn_deploy.errors import ExportError, InputError
    from glpn_deploy.exporters.engines import require_tensorrt
    from glpn_deploy.exporters.search.recipes import tensorrt_for
    from glpn_deploy.gpu.tensorrt_versions import known_problem, unsupported

    if target == "cpu" and "int8" in asked:
        raise InputError(
            "--engine of an INT8 graph for CPUs, whose quantisation TensorRT does not run well",
            fix="leave out --target cpu, or --engine",
        )
    device, trt = require_tensorrt()
    for precision in asked:
        least = PRECISION_INFO[precision].least_opset
        if least > trt.max_opset:  # before the opset asked for: no other would help
            raise InputError(
                f"--{precision} --engine: {precision} takes opset {least}, and TensorRT {trt.text} reads "
                f"up to {trt.max_opset}",
                expected=tensorrt_for(least),
                fix=f"leave out --{precision}, or --engine and build it elsewhere",
            )
    require_tensorrt(opset)
    wanted: Sequence[Precision] = asked or ("fp32",)
    for name in wanted:
        reason = unsupported(trt, name, device)
        if reason is not None:
            raise ExportError(reason, fix=f"leave out --{name}, or --engine and build it elsewhere")
        problem = known_problem(trt.version, name, device.sm)
        if problem is not None and not verify:
            raise InputError(
                f"--no-verify with TensorRT {trt.text} and {name}: {problem}",
                fix="leave out --no-verify: only the comparison shows whether this engine is right",
            )
