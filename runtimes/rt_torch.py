"""The reference backend: the PyTorch network itself, from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glpn_deploy.checkpoint import load_model
from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.modeling import GLPNForDepthEstimation
from glpn_deploy.runtimes.base import InputSpec, Precision, Runtime, RuntimeOptions

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchRuntime(Runtime):
    """Runs a loaded network in eval mode.

    Args:
        model: The network; moved to the device.
        options: Device, precision and threads. ``threads`` sets torch's process-wide number. Half
            precisions run by autocast, which keeps norms and softmax in FP32.

    Raises:
        BackendError: CUDA is asked for and not there.
        InputError: A precision that torch does not run here.
    """

    backend = "torch"

    def __init__(self, model: GLPNForDepthEstimation, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        cuda = torch.cuda.is_available()
        if options.device == "cuda" and not cuda:
            raise BackendError(
                "torch finds no CUDA device",
                fix='use device="cpu", or install a CUDA build of torch and look at `nvidia-smi`',
            )
        if options.precision not in _DTYPES:
            raise InputError(
                f"precision {options.precision} with the torch backend", expected="fp32, fp16 or bf16"
            )
        self.device = "cuda:0" if cuda and options.device != "cpu" else "cpu"
        if options.precision == "fp16" and self.device == "cpu":
            raise InputError("precision fp16 with torch on a CPU", expected="bf16 or fp32 there")
        self.precision: Precision = options.precision
        self.spec = InputSpec(model.config.num_channels, model.config.size_multiple)
        self.max_depth = model.config.max_depth
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._model = model.eval().to(self.device)

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not pixel_values.flags.writeable:  # torch warns, though nothing writes to it
            pixel_values = pixel_values.copy()
        kind = self.device.split(":", maxsplit=1)[0]
        half = self.precision != "fp32"
        with torch.inference_mode(), torch.autocast(kind, _DTYPES[self.precision], enabled=half):
            try:
                output = self._model(torch.from_numpy(pixel_values).to(self.device))
            except RuntimeError as error:  # out of memory has a class of its own on the GPU only
                raise BackendError(
                    f"torch failed on a batch of shape {pixel_values.shape} ({str(error)[:200]})",
                    fix="try a smaller batch or image",
                ) from error
        depth: NDArray[np.float32] = output.predicted_depth.float().cpu().numpy()
        return depth

    def _free(self) -> None:
        del self._model
        if self.device != "cpu":
            torch.cuda.empty_cache()


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads a checkpoint folder or ``.ckpt`` file."""
    if path is None:
        raise InputError(
            "the torch backend was given no checkpoint", fix="pass a checkpoint folder or hub id"
        )
    return TorchRuntime(load_model(path), options)
