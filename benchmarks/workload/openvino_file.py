"""OpenVINO's own file of a network that other software made, as a runtime."""

from __future__ import annotations

from pathlib import Path

from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.base import InputSpec, RuntimeOptions
from glpn_deploy.runtimes.rt_openvino import OpenVINORuntime, native_precisions, read_openvino_file


class OpenVINOFile(OpenVINORuntime):
    """One ``.xml`` file with its ``.bin``, compiled for the shape that comes, with the hints that ours get.

    Raises:
        BackendError: OpenVINO cannot read it, or the processor has not the precision asked for.
    """

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        options = options.settled()
        self.precision, self.spec = options.precision, InputSpec()
        hint = options.fallback_precision if options.precision == "int8" else options.precision
        if hint not in native_precisions():
            raise BackendError(f"this processor has no {hint} arithmetic")
        self._prepare(read_openvino_file(path), hint, options)
