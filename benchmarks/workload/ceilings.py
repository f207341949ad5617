"""How fast the machine could be at best: a matrix product, and the network's arithmetic."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.runtimes.base import Device

_SIDE = 1024
_GPU_SIDE, _HALF_SIDE = 4096, 8192  # launching takes as long as a smaller product
_PRODUCTS = 20


class Product:
    """FP32 matrix product, by torch where it is installed and by numpy's BLAS otherwise.

    It is of 1024 x 1024 on a CPU and of 4096 x 4096 on a GPU, without TF32.

    Args:
        device: ``auto`` takes the GPU where torch finds one.
        threads: Threads, where torch is there to be told; None leaves the default.

    Attributes:
        device: ``cpu`` or ``cuda:0``.
        by: ``torch`` or ``numpy``.
        flops: Floating-point operations of one product, a multiply-add being two.
    """

    def __init__(self, device: Device, threads: int | None) -> None:
        self.device, self._torch = "cpu", None
        side = _SIDE
        if importlib.util.find_spec("torch") is not None:
            import torch

            self._torch = torch
            if threads is not None:
                torch.set_num_threads(threads)
            if device != "cpu" and torch.cuda.is_available():
                self.device = "cuda:0"
                torch.backends.cuda.matmul.allow_tf32 = False
                side = _GPU_SIDE
        self.flops = 2 * side**3
        left, right = (np.random.default_rng(seed).random((side, side), np.float32) for seed in (0, 1))
        self._left: Any = left
        self._right: Any = right
        if self._torch is not None:
            self._left, self._right = (self._torch.from_numpy(m).to(self.device) for m in (left, right))
        self.by = "numpy" if self._torch is None else "torch"

    def call(self, turn: int) -> object:
        """One product, waited for."""
        result = self._left @ self._right
        if self.device != "cpu" and self._torch is not None:
            self._torch.cuda.synchronize()
        return result

    def half_rate(self) -> float | None:
        """FP16 matrix product of 8192 x 8192 on a GPU [10^9 operations/s], the best of a few; else None."""
        if self.device == "cpu" or self._torch is None:
            return None
        torch = self._torch
        left, right = (
            torch.rand(_HALF_SIDE, _HALF_SIDE, dtype=torch.float16, device=self.device) for _ in range(2)
        )
        times = []
        for _ in range(_PRODUCTS):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return float(2 * _HALF_SIDE**3 / min(times[1:]) / 1e9)


def count_flops(config: GLPNConfig, height: int, width: int) -> int | None:
    """Floating-point operations of one image through the network, by ``torch.utils.flop_counter``.

    Convolutions and matrix products are counted, a multiply-add as two; norms, activations and resizing are
    not. The network is built without weights on torch's meta device, which computes shapes only.

    Args:
        config: The network.
        height: Of the network's input [px].
        width: Of the network's input [px].

    Returns:
        The count, or None where torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from glpn_deploy.model.modeling import GLPNForDepthEstimation

    with torch.device("meta"):
        model = GLPNForDepthEstimation(config).eval()
        pixel_values = torch.empty(1, config.num_channels, height, width)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(pixel_values)
    return int(counter.get_total_flops())
