"""Which type and which device a loaded model's weights get, and by how many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from glpn_deploy.errors import BackendError, InputError
from glpn_deploy.model.config import GLPNConfig


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Has torch compute in the calling thread, so that it starts no others.

    A process that is forked later (gunicorn --preload, multiprocessing) does not have OpenMP's threads, and
    waits for them for ever. Looking through weights takes no longer in one thread than reading them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def weights_dtype(
    asked: str | torch.dtype | None, config: GLPNConfig, tensors: Mapping[str, Tensor]
) -> torch.dtype:
    """The weights' type: the one asked for; else the configuration's, else that of the first weight."""
    if asked in (None, "auto"):
        asked = config.dtype or next(
            (t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32
        )
    dtype = getattr(torch, asked.removeprefix("torch."), None) if isinstance(asked, str) else asked
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype {asked!r}", expected="auto, or a floating type such as float16")
    return dtype


def one_device(device_map: Any) -> torch.device:
    """The device that a ``device_map`` names."""
    if isinstance(device_map, dict) and len(set(device_map.values())) == 1:
        device_map = next(iter(device_map.values()))
    if device_map == "auto":
        device_map = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cpu" if device_map is None else device_map)
    except (RuntimeError, TypeError):
        raise InputError(
            f"device_map {device_map!r}", expected="one device: cpu, cuda, cuda:1 or auto"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError("torch finds no CUDA device", fix='use device_map="auto"')
    return device
