"""How much memory is free, and how much the network takes at least."""

from __future__ import annotations

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


def require_room(runtime: Runtime, shape: tuple[int, int, int], source: ImageSource) -> None:
    """Refuses a batch (N, H, W) that does not fit into memory, before the system ends the process.

    Raises:
        ImageError: It does not; names its first image where that is a file.
    """
    if runtime.device != "cpu" or runtime.backend not in ("onnxruntime", "torch"):
        return
    needed = attention_bytes(*shape)
    free = available_memory() if needed > _SMALL else None
    if free is not None and needed > free:
        name = source if isinstance(source, (str, Path)) else "the image"
        raise ImageError(
            f"{name} enters the network as {shape[0]}x{shape[1]}x{shape[2]}, which takes about "
            f"{needed / 1e9:.1f} GB of memory",
            expected=f"at most the {free / 1e9:.1f} GB that are free",
            fix="shrink it for the network: --max-side 1280 (max_side=1280); OpenVINO takes less",
        )
