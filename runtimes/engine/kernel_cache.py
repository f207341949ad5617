"""Kernels that TensorRT for RTX compiled on this GPU, kept between starts in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from glpn_deploy.gpu.cuda_device import CudaDevice
from glpn_deploy.runtimes.compiled_cache import CompiledCache


class KernelCache:
    """The runtime cache of one engine on one GPU.

    TensorRT for RTX checks what it is given against version, GPU and driver; that it is what was written is
    checked before, since it is executable.

    Args:
        folder: Where it is kept; others must not be able to write to it.
        config: The ``IRuntimeConfig`` that contexts are made with. CUDA has been started.
    """

    def __init__(self, folder: Path, config: Any, digest: str, device: CudaDevice) -> None:
        self._store = CompiledCache(folder)
        about = f"{digest} {device.title} {device.cuda}"
        self._name = f"tensorrt-rtx-{hashlib.sha256(about.encode()).hexdigest()[:32]}"
        self._cache = config.create_runtime_cache()
        found = self._store.read(self._name)
        self._kept = b"" if found is None else found.tobytes()
        if self._kept and not self._cache.deserialize(self._kept):
            self._store.remove(self._name)  # of another version or driver
            self._kept = b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Keeps the kernels there are now; nothing is done where none came to it."""
        serialized = self._cache.serialize()
        content = b"" if serialized is None else bytes(memoryview(serialized))
        if content and content != self._kept:
            self._store.write(self._name, content)
            self._kept = content
