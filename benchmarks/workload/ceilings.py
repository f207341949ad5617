"""How fast the machine could be at best: a matrix product, a large copy, and the network's arithmetic."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import itertools
import os
import time
from typing import Any

import numpy as np

from glpn_deploy.model.config import GLPNConfig
from glpn_deploy.runtimes.base import Device

_SIDE = 1024
_GPU_SIDE, _HALF_SIDE = 4096, 8192  # launching takes as long as a smaller product
_COPY_BYTES = 128 * 2**20  # well above any last-level cache but the largest servers'
_COPIES = 5


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
        self._threads = threads or usable_cores()
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

    def bandwidth(self) -> float:
        """Bytes read and written a second by a large copy [GB/s], the best of a few, as STREAM counts."""
        if self.device != "cpu" and self._torch is not None:
            return self._gpu_bandwidth(self._torch)
        source = np.ones(_COPY_BYTES, np.uint8)
        target = np.empty_like(source)
        edges = np.linspace(
            0, _COPY_BYTES, self._threads + 1, dtype=int
        )  # numpy lets go of the GIL in copies
        times = []
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            for _ in range(_COPIES + 1):  # the first touches the target's pages
                begin = time.perf_counter()
                jobs = [
                    pool.submit(np.copyto, target[a:b], source[a:b]) for a, b in itertools.pairwise(edges)
                ]
                for job in jobs:
                    job.result()
                times.append(time.perf_counter() - begin)
        return 2 * _COPY_BYTES / min(times[1:]) / 1e9

    def half_rate(self) -> float | None:
        """FP16 matrix product of 8192 x 8192 on a GPU [10^9 operations/s], the best of a few; else None."""
        if self.device == "cpu" or self._torch is None:
            return None
        torch = self._torch
        left, right = (
            torch.rand(_HALF_SIDE, _HALF_SIDE, dtype=torch.float16, device=self.device) for _ in range(2)
        )
        times = []
        for _ in range(4 * _COPIES):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return float(2 * _HALF_SIDE**3 / min(times[1:]) / 1e9)

    def _gpu_bandwidth(self, torch: Any) -> float:
        source = torch.ones(8 * _COPY_BYTES, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        times = []
        for _ in range(_COPIES + 1):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            target.copy_(source)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return float(2 * source.numel() / min(times[1:]) / 1e9)


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
