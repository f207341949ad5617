"""Energy meters on made-up counters, and what this machine says of itself."""

from __future__ import annotations

import pytest

from glpn_deploy.benchmarks.machine.energy import open_meter, rapl_meter
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import identity, state


def zone(root, name: str, energy: int):
    path = root / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")


def test_rapl_adds_packages_not_their_parts_and_survives_a_wrap(tmp_path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 900_000)
    joules = rapl_meter(tmp_path)
    assert joules() == 0
    zone(tmp_path, "intel-rapl:0", 100_000)  # past its range: 200 mJ
    zone(tmp_path, "intel-rapl:1", 950_000)
    assert joules() == pytest.approx(0.25)
    with pytest.raises(FileNotFoundError):
        rapl_meter(tmp_path / "none")


class FakeNvml:
    """As much of NVML as is asked for."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksThrottleReasonSwPowerCap = 4  # noqa: N815 - NVML's name
    nvmlClocksThrottleReasonGpuIdle = 1  # noqa: N815

    @staticmethod
    def nvmlDeviceGetCurrentClocksThrottleReasons(handle) -> int:  # noqa: N802
        return 5

    @staticmethod
    def nvmlDeviceGetClockInfo(handle, kind) -> int:  # noqa: N802
        return 1000 * kind

    def __getattr__(self, name):
        if not name.startswith(("nvmlDevice", "nvmlSystem")):
            raise AttributeError(name)

        def unknown(*_: object) -> None:
            raise self.NVMLError(name)

        return unknown


def test_a_gpu_tells_what_it_can(monkeypatch) -> None:
    gpu = Gpu()
    gpu._nvml, gpu._handle, gpu.there, gpu.name = FakeNvml(), None, True, "planted"
    assert gpu.throttled() == ["power limit"]  # idle clocks are no fault
    told = {"name": "planted", "sm_mhz": 1000, "memory_mhz": 2000, "throttled": ["power limit"]}
    assert gpu.state() == told
    assert gpu.energy_j() is None
    assert gpu.memory_mib(1) is None
    monkeypatch.setattr(
        FakeNvml, "nvmlDeviceGetTotalEnergyConsumption", lambda self, handle: 2500, raising=False
    )
    meter = open_meter(gpu, "cuda:0")
    assert meter is not None
    assert meter() == 2.5


def test_without_a_gpu_nothing_is_told() -> None:
    gpu = Gpu()
    if gpu.there:
        pytest.skip("this machine has a GPU")
    assert (gpu.state(), gpu.throttled(), gpu.energy_j(), gpu.memory_mib(1)) == ({}, [], None, None)


def test_the_machine_names_itself() -> None:
    found = identity(Gpu(), threads=3)
    assert found["threads"] == 3
    assert found["memory_gib"] >= 1
    assert "cores" in found["processor"]
    assert len(state(Gpu())["load_average"]) == 3
