"""Other projects' ways to run the same network, as runtimes, so that they can be rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.base import InputSpec, Runtime, RuntimeOptions


def load_peer(name: str, checkpoint: Path, options: RuntimeOptions) -> Runtime:
    """Loads a peer from a checkpoint folder in HF's format.

    Raises:
        BackendError: The peer could not load it.
    """
    try:
        return HfRuntime(name, checkpoint, options)
    except Exception as error:  # another project's: whatever it raises is a reason
        raise BackendError(f"transformers cannot load {checkpoint} ({str(error)[:200]})") from error


class HfRuntime(Runtime):
    """Transformers' own network in eval mode, in FP32 or wholly in FP16: ``hf-eager``, or ``hf-compile``."""

    def __init__(self, name: str, checkpoint: Path, options: RuntimeOptions) -> None:
        import torch
        import transformers

        if options.threads is not None:
            torch.set_num_threads(options.threads)
        cuda = options.device != "cpu" and torch.cuda.is_available()
        self.device = "cuda:0" if cuda else "cpu"
        self.spec = InputSpec()
        self._torch, self.backend, self.precision = torch, name, options.precision
        self._dtype = torch.float16 if options.precision == "fp16" else torch.float32
        model: Any = transformers.GLPNForDepthEstimation.from_pretrained(checkpoint)
        model = model.eval().to(self.device, self._dtype)
        self._model = torch.compile(model, mode="max-autotune") if name == "hf-compile" else model

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(pixel_values.copy()).to(self.device, self._dtype)
            depth: NDArray[np.float32] = self._model(batch).predicted_depth.float().cpu().numpy()
        return depth
