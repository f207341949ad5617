"""Energy where the machine tells it: NVML on NVIDIA cards, RAPL on x86 processors.

What is read is the whole card's or package's energy, idle draw and other programs included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from glpn_deploy.benchmarks.machine.gpu import Gpu

Meter = Callable[[], float | None]
"""Gives the energy since some start [J], or None where it cannot be read just now."""

RAPL = Path("/sys/class/powercap")


def rapl_meter(root: Path = RAPL) -> Meter:
    """The processor packages' counters, which start again from 0 at their range: a minute or more.

    Raises:
        OSError: There are none, or not for this user.
        ValueError: One holds no number.
    """
    zones = [path for path in sorted(root.glob("*-rapl:*")) if path.name.count(":") == 1]
    if not zones:
        raise FileNotFoundError(root)
    spans = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]

    def read() -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in zones]

    last, total = read(), 0

    def joules() -> float:
        nonlocal last, total
        now = read()
        total += sum((b - a) % span for a, b, span in zip(last, now, spans, strict=True))
        last = now
        return total / 1e6

    return joules


def open_meter(gpu: Gpu, device: str) -> Meter | None:
    """The meter of what the cases run on, or None where the machine tells nothing or not to this user."""
    if device != "cpu" and gpu.energy_j() is not None:
        return gpu.energy_j
    with contextlib.suppress(OSError, ValueError):
        return rapl_meter()
    return None
