"""The first GPU's state from NVIDIA's NVML; empty without a GPU. Never run on a GPU yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

_SLOWED = {  # the reasons that change a measurement; idle and the user's own clock settings do not
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "HwThermalSlowdown": "temperature (hardware)",
    "SwThermalSlowdown": "temperature (driver)",
    "HwPowerBrakeSlowdown": "power brake",
}


class Gpu:
    """The first GPU.

    Attributes:
        there: Whether NVML is installed and finds a GPU.
        name: The GPU's name, or nothing.
    """

    def __init__(self, index: int = 0) -> None:
        self.there, self.name = False, ""
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(self._handle)
        except pynvml.NVMLError:
            return
        self._nvml, self.there = pynvml, True
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def state(self) -> dict[str, Any]:
        """Clocks [MHz], temperature [°C], power [W], driver, throttling, as far as NVML tells."""
        if not self.there:
            return {}
        nvml = self._nvml
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        found = {
            "name": self.name,
            "driver": self._ask(lambda handle: str(nvml.nvmlSystemGetDriverVersion())),
            "sm_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "memory_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power_mw is None else power_mw / 1e3,
            "throttled": self.throttled(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def throttled(self) -> list[str]:
        """Why the clocks are held down right now."""
        if not self.there:
            return []
        bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0
        return [
            words
            for name, words in _SLOWED.items()
            if bits & getattr(self._nvml, f"nvmlClocksThrottleReason{name}", 0)
        ]

    def memory_mib(self, pid: int) -> float | None:
        """Device memory of a process [MiB]."""
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses) if self.there else None
        used = [p.usedGpuMemory for p in processes or [] if p.pid == pid and p.usedGpuMemory is not None]
        return sum(used) / 2**20 if used else None

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded [J]; Volta and later."""
        millijoules = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption) if self.there else None
        return None if millijoules is None else millijoules / 1e3

    def _ask(self, question: Callable[..., Any], *what: Any) -> Any:
        """An answer, or None where this GPU or driver does not have it (a Jetson's NVML lacks most)."""
        with contextlib.suppress(self._nvml.NVMLError):
            return question(self._handle, *what)
        return None
