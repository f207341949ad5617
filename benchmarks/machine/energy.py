"""Energy where the machine tells: NVML on NVIDIA cards, tegrastats on a Jetson, RAPL on x86 processors.

What is read is the whole module's, card's or package's energy, idle draw and other programs included.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from glpn_deploy.benchmarks.machine.gpu import Gpu

RAPL = Path("/sys/class/powercap")
_TEGRA_RAILS = ("VDD_IN", "POM_5V_IN", "SYS5V", "VIN")  # the rail of the whole module, by board


class Meter(Protocol):
    """A running total of energy.

    Attributes:
        source: Where it comes from, in words.
    """

    source: str

    def joules(self) -> float | None:
        """Energy since some start [J], or None where it cannot be read just now."""

    def close(self) -> None:
        """Stops what the meter runs."""


class GpuMeter:
    """The card's own counter."""

    source = "NVML, the whole card"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def joules(self) -> float | None:
        """As `Meter`."""
        return self._gpu.energy_j()

    def close(self) -> None:
        """Nothing runs."""


class RaplMeter:
    """The processor packages' counters, which start again from 0 at their range."""

    source = "RAPL, the processor packages"

    def __init__(self, root: Path = RAPL) -> None:
        zones = [path for path in sorted(root.glob("*-rapl:*")) if path.name.count(":") == 1]
        self._zones = [(path, int((path / "max_energy_range_uj").read_text())) for path in zones]
        self._last = [self._read(path) for path, _ in self._zones]
        if not self._zones:
            raise FileNotFoundError(root)
        self._total = 0

    @staticmethod
    def _read(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())

    def joules(self) -> float | None:
        """As `Meter`; to be asked at least once in a range, which is a minute or more."""
        for number, (path, span) in enumerate(self._zones):
            now = self._read(path)
            self._total += (now - self._last[number]) % span
            self._last[number] = now
        return self._total / 1e6

    def close(self) -> None:
        """Nothing runs."""


class TegraMeter:
    """A Jetson's module rail, the power that tegrastats prints, summed up. Never run on a Jetson yet."""

    source = "tegrastats, the whole module"

    def __init__(
        self,
        command: tuple[str, ...] = ("tegrastats", "--interval", "50"),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._clock, self._total, self._last, self._watts = clock, 0.0, clock(), 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            watts = tegra_watts(line)
            if watts is not None:
                with self._lock:
                    self._add()
                    self._watts = watts

    def _add(self) -> None:
        now = self._clock()
        self._total += self._watts * (now - self._last)
        self._last = now

    def joules(self) -> float | None:
        """As `Meter`; None until the first line."""
        with self._lock:
            self._add()
            return self._total if self._watts else None

    def close(self) -> None:
        """Ends tegrastats."""
        self._process.terminate()
        self._process.wait()
        self._thread.join(timeout=2)
        if self._process.stdout is not None:
            self._process.stdout.close()


def tegra_watts(line: str) -> float | None:
    """The module's power in a line of tegrastats [W]: ``VDD_IN 4956mW/4956mW`` or ``POM_5V_IN 1000/1000``."""
    for rail in _TEGRA_RAILS:
        found = re.search(rf"\b{rail} (\d+)(?:mW)?/", line)
        if found:
            return int(found[1]) / 1e3
    return None


def open_meter(gpu: Gpu, device: str) -> Meter | None:
    """The meter of what the cases run on, or None where the machine tells nothing or not to this user."""
    if shutil.which("tegrastats"):
        return TegraMeter()
    if device != "cpu" and gpu.energy_j() is not None:
        return GpuMeter(gpu)
    with contextlib.suppress(OSError, ValueError):
        return RaplMeter()
    return None
