"""The machine under the measurement: what makes it this one, what state it was in, and who else used it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from glpn_deploy.benchmarks.machine.environment import describe_environment
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.optional import needs

CPU = Path("/sys/devices/system/cpu")


def require_psutil() -> ModuleType:
    """The module psutil.

    Raises:
        MissingDependencyError: It is not installed.
    """
    with needs("glpn-bench", "bench"):
        import psutil
    module: ModuleType = psutil
    return module


def identity(gpu: Gpu, threads: int | None) -> dict[str, Any]:
    """What has to be the same for two runs to be comparable: processor, cores, memory, GPU, threads."""
    psutil = require_psutil()
    environment = describe_environment()
    return {
        "processor": environment["processor"],
        "system": environment["system"],
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu.name or None,
        "threads": threads or os.environ.get("OMP_NUM_THREADS") or "default",
        "power_mode": _jetson_power_mode(),
    }


def state(gpu: Gpu) -> dict[str, Any]:
    """Load, frequency, governor, temperatures, throttling; what the machine does not tell is left out."""
    psutil = require_psutil()
    frequency = None
    with contextlib.suppress(OSError, NotImplementedError):
        frequency = psutil.cpu_freq()
    memory = psutil.virtual_memory()
    found: dict[str, Any] = {
        "load_average": [round(value, 2) for value in psutil.getloadavg()],
        "governor": _text(CPU / "cpu0/cpufreq/scaling_governor"),
        "frequency_mhz": round(frequency.current) if frequency else None,
        "turbo_off": _text(CPU / "intel_pstate/no_turbo"),
        "free_memory_gib": round(memory.available / 2**30, 1),
        "temperatures_c": _temperatures(psutil),
        "throttle_count": throttle_count(),
        "gpu": gpu.state(),
    }
    return {name: value for name, value in found.items() if value not in (None, {}, "")}


def throttle_count() -> int | None:
    """How often heat slowed the cores since the system started, or None where the system does not say."""
    counts = [_text(path) for path in CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [int(count) for count in counts if count.isdigit()]
    return sum(known) if known else None


def _temperatures(psutil: ModuleType) -> dict[str, float]:
    with contextlib.suppress(AttributeError, OSError):
        sensors = psutil.sensors_temperatures()
        return {name: max(entry.current for entry in entries) for name, entries in sensors.items() if entries}
    return {}


def _jetson_power_mode() -> str | None:
    command = shutil.which("nvpmodel")
    if command is None:
        return None
    try:
        run = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return " ".join(run.stdout.split()) or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


_PAUSE_S = 0.02


@dataclasses.dataclass
class Usage:
    """Who used the processor cores during the bursts of a case; sums over them.

    Attributes:
        seconds: Duration [s].
        others_s: Time of other processes on the cores that this one may use [s].
        stolen_s: Time that the hypervisor gave to other machines [s].
    """

    seconds: float = 0.0
    others_s: float = 0.0
    stolen_s: float = 0.0

    @property
    def others(self) -> float:
        """Cores that other processes took on average."""
        return self.others_s / self.seconds if self.seconds else 0.0

    @property
    def stolen(self) -> float:
        """Cores that the hypervisor took on average."""
        return self.stolen_s / self.seconds if self.seconds else 0.0


Cores = Callable[[], tuple[float, float]]
"""Gives the busy and the stolen seconds of processor cores since the system started."""


class Watch:
    """Watches processor cores.

    Args:
        cores: What to ask; None takes the cores that this process may run on.
    """

    def __init__(self, cores: Cores | None = None) -> None:
        self._cores = cores or own_cores()

    @contextlib.contextmanager
    def burst(self, usage: Usage) -> Iterator[list[float]]:
        """Adds what happens in the block to ``usage``; the worker's own seconds go into the list.

        Waits first, for the last burst's spinning threads to fall asleep.
        """
        time.sleep(_PAUSE_S)
        own: list[float] = []
        begin, before, parent = time.perf_counter(), self._cores(), time.process_time()
        yield own
        busy, stolen = (b - a for a, b in zip(before, self._cores(), strict=True))
        usage.seconds += time.perf_counter() - begin
        usage.others_s += busy - sum(own) - (time.process_time() - parent)  # a tick too much evens out
        usage.stolen_s += stolen


def own_cores() -> Cores:
    """The cores that this process may run on.

    Raises:
        MissingDependencyError: psutil is not installed.
    """
    psutil = require_psutil()
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def read() -> tuple[float, float]:
        times = psutil.cpu_times(percpu=True)
        chosen = times if usable is None else [times[core] for core in usable if core < len(times)]
        stolen = sum(getattr(t, "steal", 0.0) for t in chosen)
        idle = sum(t.idle + getattr(t, "iowait", 0.0) for t in chosen)
        # guest time is counted within user and nice already
        everything = sum(sum(t) - getattr(t, "guest", 0.0) - getattr(t, "guest_nice", 0.0) for t in chosen)
        return everything - idle - stolen, stolen

    return read
