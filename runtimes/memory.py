"""How much memory is free, and how much the network takes at least."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.errors import ImageError
from glpn_deploy.images.loading import ImageSource
from glpn_deploy.reading import memory_sizes
from glpn_deploy.runtimes.base import Runtime

_SMALL = 2**28  # bytes, for which nobody asks how much is free
_SCORES_HELD = 2
"""Copies of a score matrix that ONNX Runtime holds in the softmax: 2.2 of its size measured at 1280x1280 and
1600x1600 px over the demo network; torch 3.2."""


def available_memory() -> int | None:
    """Memory [bytes] that this process can still take, or None where the system does not tell."""
    free = memory_sizes().get("MemAvailable")
    if free is None:
        return None
    try:  # a container's own limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # none, or "max"
        pass
    return max(free, 0)


def attention_bytes(batch: int, height: int, width: int) -> int:
    """What GLPN's first attention takes where its scores are kept whole (ONNX Runtime, torch) [bytes].

    Height and width [px] / 4 are its rows, each an eighth of that its columns, in float32: it grows with the
    square of the image's area.
    """
    rows = height * width // 16
    return _SCORES_HELD * 4 * batch * rows * (rows // 64)


class Room:
    """Memory of the runs that a runtime has at the same time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._changed = threading.Condition()
        self._taken = 0  # bytes, by large runs; the system counts them only when they are touched

    @contextlib.contextmanager
    def of_run(self, shape: tuple[int, int, int], source: ImageSource) -> Iterator[None]:
        """Lets a batch (N, H, W) in, before the system ends the process; waits for others that are in.

        Raises:
            ImageError: It does not fit alone; names its first image where that is a file.
        """
        counts = self._runtime.device == "cpu" and self._runtime.backend in ("onnxruntime", "torch")
        needed = attention_bytes(*shape) if counts else 0
        if needed <= _SMALL:
            yield
            return
        with self._changed:
            while (free := available_memory()) is not None and self._taken + needed > free:
                if not self._taken:
                    raise _too_large(shape, source, needed, free)
                self._changed.wait()
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()


def _too_large(shape: tuple[int, int, int], source: ImageSource, needed: int, free: int) -> ImageError:
    name = source if isinstance(source, (str, Path)) else "the image"
    return ImageError(
        f"{name} enters the network as {shape[0]}x{shape[1]}x{shape[2]}, which takes about "
        f"{needed / 1e9:.1f} GB of memory",
        expected=f"at most the {free / 1e9:.1f} GB that are free",
        fix="shrink it for the network: --max-side 1280 (max_side=1280); OpenVINO takes less",
    )
