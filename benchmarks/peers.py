"""Other projects' ways to run the same network, as runtimes, so that they can be rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError
from glpn_deploy.runtimes.base import InputSpec, Precision, Runtime, RuntimeOptions


def load_peer(name: str, checkpoint: Path, options: RuntimeOptions) -> Runtime:
    """Loads a peer from a checkpoint folder in HF's format.

    Raises:
        BackendError: The peer could not load it.
    """
    return (_load_hf if name == "hf-eager" else _load_optimum)(checkpoint, options)


class HfEager(Runtime):
    """Transformers' own network, eager, FP32, in eval mode."""

    backend = "hf-eager"
    precision: Precision = "fp32"

    def __init__(self, checkpoint: Path, options: RuntimeOptions) -> None:
        import torch
        import transformers

        if options.threads is not None:
            torch.set_num_threads(options.threads)
        cuda = options.device != "cpu" and torch.cuda.is_available()
        self.device = "cuda:0" if cuda else "cpu"
        self.spec = InputSpec()
        self._torch = torch
        model: Any = transformers.GLPNForDepthEstimation.from_pretrained(checkpoint)
        self._model = model.eval().to(self.device)

    def _infer(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(pixel_values.copy()).to(self.device)
            depth: NDArray[np.float32] = self._model(batch).predicted_depth.cpu().numpy()
        return depth


def _load_hf(checkpoint: Path, options: RuntimeOptions) -> Runtime:
    try:
        return HfEager(checkpoint, options)
    except Exception as error:  # another project's: whatever it raises is a reason
        raise BackendError(f"transformers cannot load {checkpoint} ({str(error)[:200]})") from error


def _load_optimum(checkpoint: Path, options: RuntimeOptions) -> Runtime:
    """Optimum has no depth runtime of its own for GLPN: its export, run on ONNX Runtime as its users do."""
    from optimum.exporters.onnx import main_export

    from glpn_deploy.runtimes.rt_onnxruntime import OnnxRuntime

    with tempfile.TemporaryDirectory() as folder:
        try:
            main_export(str(checkpoint), output=folder, task="depth-estimation", device="cpu")
        except Exception as error:  # as above
            raise BackendError(f"optimum cannot export {checkpoint} ({str(error)[:200]})") from error
        runtime = OnnxRuntime(Path(folder) / "model.onnx", options)
    runtime.backend = "optimum"
    return runtime
