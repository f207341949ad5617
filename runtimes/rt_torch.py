"""The reference backend: the PyTorch network itself, from a checkpoint, as it is or compiled by torch."""

from __future__ import annotations

import copy
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glpn_deploy.errors import BackendError, InputError, UnavailableError
from glpn_deploy.model.base import config_of
from glpn_deploy.model.modeling import GLPNForDepthEstimation
from glpn_deploy.model.outputs import depth_of
from glpn_deploy.model.placement import one_thread
from glpn_deploy.runtimes.base import InputSpec, Precision, Runtime, RuntimeOptions
from glpn_deploy.runtimes.specialize import Shape, Specializer

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_LIMIT = 8  # shapes compiled; torch._dynamo.config.recompile_limit's default


class TorchRuntime(Runtime):
    """Runs a loaded network in eval mode.

    Half precisions run by autocast: convolutions and products in FP16 or BF16, norms and softmax in FP32. The
    weights of the former are cast once, in a copy of the network: autocast would cast them at every run. FP16
    needs CUDA. FP32 on a GPU is FP32: TF32, which cuDNN's convolutions have by default, is switched off in
    all of the process.

    Compiled, every shape gets code of its own: torch's code for free shapes fails on this network (2.13:
    ``ValueRangeError`` in a convolution's strides). The first shape is compiled at once, which takes from
    seconds (``default`` on a GPU) to minutes; later ones when they come again, up to torch's own limit of
    8. All other batches run uncompiled. Of a compiled shape the whole network must compile, else the run
    fails; torch would otherwise go on uncompiled without a word.

    In a forked process the main thread's OpenMP threads are those of the parent, which are not there: torch
    would wait for them for ever. It runs in a thread of its own there, which starts new ones.

    Args:
        model: The network, or a module with its inputs and outputs; moved to the device.
        options: Device, precision, threads and compile. ``threads`` sets torch's process-wide number.

    Raises:
        UnavailableError: CUDA is asked for and not there, or a precision that torch does not run here.
        BackendError: The compiler that ``compile`` needs is missing.
    """

    backend = "torch"

    def __init__(self, model: nn.Module, options: RuntimeOptions = RuntimeOptions()) -> None:  # noqa: B008 - frozen
        options = options.settled()
        cuda = torch.cuda.is_available()
        if options.device == "cuda" and not cuda:
            raise UnavailableError(
                "torch finds no CUDA device",
                fix='use device="cpu", or install a CUDA build of torch and look at `nvidia-smi`',
            )
        if options.precision not in _DTYPES:
            raise UnavailableError(
                f"the torch backend does not run {options.precision}", expected="fp32, fp16 or bf16"
            )
        self.device = "cuda:0" if cuda and options.device != "cpu" else "cpu"
        if options.precision == "fp16" and self.device == "cpu":
            raise UnavailableError("the torch backend does not run fp16 on a CPU", expected="bf16 or fp32")
        self.precision: Precision = options.precision
        config = config_of(model)
        self.spec = InputSpec(channels=config.num_channels, size_multiple=config.size_multiple)
        self.max_depth = config.max_depth
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        with one_thread():
            if self.precision != "fp32":
                model = _cast(model, _DTYPES[self.precision])
            elif self.device != "cpu":
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            self._model = model.eval().to(self.device)
        self._worker: ThreadPoolExecutor | None = None
        self.compile, self._count = options.compile, 0
        self._limit = min(options.cached_shapes or _LIMIT, _LIMIT)
        if options.compile != "no":
            _require_compiler(self.device)
            self._networks = Specializer(self._compiled, self._limit, warn=False)

    def _compiled(self, shape: Shape | None) -> Callable[..., Any]:
        """The network compiled for a shape at its first batch, or uncompiled past the limit."""
        if shape is None or self._count == self._limit:
            return self._model
        self._count += 1
        network: Callable[..., Any] = torch.compile(
            self._model, mode=self.compile, fullgraph=True, dynamic=False
        )
        return network

    def warm_up(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """As of any runtime: the shape gets code of its own where torch compiles and allows one more."""
        return self._infer(self._checked(pixel_values), own=self._count < self._limit)

    def _infer(self, pixel_values: NDArray[np.float32], own: bool = False) -> NDArray[np.float32]:
        if not self.forked or threading.current_thread() is not threading.main_thread():
            return self._compute(pixel_values, own)
        self._worker = self._worker or ThreadPoolExecutor(1, "glpn-torch")
        return self._worker.submit(self._compute, pixel_values, own).result()

    def _compute(self, pixel_values: NDArray[np.float32], own: bool) -> NDArray[np.float32]:
        if not pixel_values.flags.writeable:  # torch warns, though nothing writes to it
            pixel_values = pixel_values.copy()
        kind = self.device.split(":", maxsplit=1)[0]
        half = self.precision != "fp32"
        shape = pixel_values.shape
        network = self._model if self.compile == "no" else self._networks.network(shape, own=own)
        with torch.inference_mode(), torch.autocast(kind, _DTYPES[self.precision], enabled=half):
            try:
                output = network(torch.from_numpy(pixel_values).to(self.device))
            except RuntimeError as error:  # out of memory has a class of its own on the GPU only
                if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise BackendError(
                        f"torch.compile failed on a batch of shape {pixel_values.shape} ({_words(error)})",
                        fix='run it uncompiled with compile="no"',
                    ) from error
                raise BackendError(
                    f"torch failed on a batch of shape {pixel_values.shape} ({str(error)[:200]})",
                    fix="try a smaller batch or image",
                ) from error
        depth: NDArray[np.float32] = depth_of(output).float().cpu().numpy()
        return depth

    def operator_times(self, pixel_values: NDArray[np.float32]) -> dict[str, float]:
        """Time of a run by ATen operator [ms], as torch's profiler tells it."""
        from torch.profiler import ProfilerActivity, profile

        gpu = self.device != "cpu"
        with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
            self._infer(pixel_values)
        return {
            event.key.removeprefix("aten::"): taken / 1e3
            for event in found.key_averages()
            if (taken := event.self_device_time_total if gpu else event.self_cpu_time_total)
        }

    def describe(self) -> dict[str, Any]:
        """As of any runtime; how it is compiled, and that FP32 products on a GPU are not TF32."""
        about = super().describe()
        if self.compile != "no":
            about |= {"compile": self.compile} | self._networks.describe()
        return about | ({"tf32": False} if (self.device, self.precision) == ("cuda:0", "fp32") else {})

    def _free(self) -> None:
        del self._model
        if self.compile != "no":
            self._networks.clear()
        if self.device != "cpu":
            torch.cuda.empty_cache()


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose convolutions and products have their weights in a half type."""
    model = copy.deepcopy(model).float()
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.to(dtype)
    return model


def _require_compiler(device: str) -> None:
    """Checks for what `torch.compile` makes code with: a C++ compiler, or Triton on the GPU.

    Raises:
        BackendError: It is not there.
    """
    from torch._inductor import config
    from torch.utils import _triton

    if device != "cpu":
        if not _triton.has_triton():
            raise BackendError(
                "torch.compile needs Triton on the GPU, which is not installed or not for this GPU",
                fix='pip install triton, or compile="no"',
            )
        return
    names = config.cpp.cxx if isinstance(config.cpp.cxx, (list, tuple)) else (config.cpp.cxx,)
    if sys.platform != "win32" and not any(name and shutil.which(name) for name in names):
        asked = ", ".join(name for name in names if name)
        raise BackendError(
            f"torch.compile needs a C++ compiler on the CPU, and there is no {asked}",
            fix='install one (apt install g++ python3-dev), name it in the variable CXX, or compile="no"',
        )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def installed() -> str:
    """For `glpn-doctor`: the version, and what it runs on."""
    return f"{torch.__version__}, {f'CUDA {torch.version.cuda}' if torch.cuda.is_available() else 'CPU'}"


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads a checkpoint folder or ``.ckpt`` file."""
    if path is None:
        raise InputError(
            "the torch backend was given no checkpoint", fix="pass a checkpoint folder or hub id"
        )
    return TorchRuntime(GLPNForDepthEstimation.from_pretrained(path, dtype="float32"), options)
