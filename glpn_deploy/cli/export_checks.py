"""What glpn-export refuses before the long work: options that do nothing."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from glpn_deploy.cli.derived import option_names
from glpn_deploy.datasets.options import GroundTruthOptions
from glpn_deploy.errors import InputError
from glpn_deploy.exporters.options import LowerOptions
from glpn_deploy.precisions import LOWER_PRECISIONS, QUANTIZED_PRECISIONS, Precision

_FLAGS = ", ".join(f"--{name}" for name in LOWER_PRECISIONS)


def refuse_idle_options(context: typer.Context, asked: Sequence[Precision]) -> None:
    """Refuses options that were given and would do nothing.

    Args:
        context: The command's, which knows what was typed.
        asked: The lower precisions.

    Raises:
        InputError: There is one; the message says what it needs beside it.
    """
    lower = {*option_names(LowerOptions), *option_names(GroundTruthOptions)} - {"precision"}
    typed = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        # by its name: newer typers have a click of their own
        if option.name in lower and source is not None and source.name == "COMMANDLINE":
            off = context.params.get(option.name or "") is False and option.secondary_opts
            typed[option.name] = (option.secondary_opts if off else option.opts)[0]
    if typed and not asked:
        names = " and ".join(typed.values())
        raise InputError(
            f"{names} without a lower precision",
            expected=f"one of {_FLAGS} beside it",
            fix=f"add --fp16, or leave out {names}",
        )
    calibrates = ("--int8 or --fp8", bool({*QUANTIZED_PRECISIONS} & {*asked}))
    by_percentile = context.params["calibration_method"] == "percentile"
    needs = {
        "calibration_method": calibrates,
        "calibration_images": calibrates,
        "calibration_percentile": ("--calibration-method percentile", by_percentile),
        "target": calibrates,
        "for_tensorrt": ("--int8", "int8" in asked),
    }
    for name, (what, there) in needs.items():
        if name in typed and not there:
            raise InputError(
                f"{typed[name]} without {what}, where it does nothing",
                fix=f"add {what}, or leave out {typed[name]}",
            )
