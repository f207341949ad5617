"""Energy meters on made-up counters, and the machine's state on this machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from glpn_deploy.benchmarks.machine.energy import RaplMeter, TegraMeter, tegra_watts
from glpn_deploy.benchmarks.machine.gpu import Gpu
from glpn_deploy.benchmarks.machine.machine_state import Usage, Watch, identity, state, versions


def zone(root, name: str, energy: int):
    path = root / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")


def test_rapl_adds_packages_not_their_parts_and_survives_a_wrap(tmp_path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 900_000)
    meter = RaplMeter(tmp_path)
    assert meter.joules() == 0
    zone(tmp_path, "intel-rapl:0", 100_000)  # past its range: 200 mJ
    zone(tmp_path, "intel-rapl:1", 950_000)
    assert meter.joules() == pytest.approx(0.25)
    with pytest.raises(FileNotFoundError):
        RaplMeter(tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        ("RAM 3222/7620MB CPU [2%@729] VDD_IN 4956mW/4900mW VDD_CPU_GPU_CV 598mW/600mW", 4.956),
        ("RAM 2000/3956MB POM_5V_IN 1532/1532 POM_5V_GPU 0/0", 1.532),
        ("RAM 2000/3956MB", None),
    ],
)
def test_tegrastats_lines(line, watts) -> None:
    assert tegra_watts(line) == watts


def test_tegrastats_power_adds_up_over_time() -> None:
    program = "import time\nwhile True:\n print('VDD_IN 2000mW/2000mW', flush=True)\n time.sleep(0.02)"
    meter = TegraMeter((sys.executable, "-c", program))
    try:
        while meter.joules() is None:
            time.sleep(0.01)
        start, begin = meter.joules(), time.perf_counter()
        time.sleep(0.3)
        assert meter.joules() - start == pytest.approx(2.0 * (time.perf_counter() - begin), rel=0.3)
    finally:
        meter.close()


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


def test_a_gpu_tells_what_it_can() -> None:
    gpu = Gpu()
    gpu._nvml, gpu._handle, gpu.there, gpu.name = FakeNvml(), None, True, "planted"
    assert gpu.throttled() == ["power limit"]  # idle clocks are no fault
    told = {"name": "planted", "sm_mhz": 1000, "memory_mhz": 2000, "throttled": ["power limit"]}
    assert gpu.state() == told
    assert gpu.energy_j() is None
    assert gpu.memory_mib(1) is None


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
    assert {"python", "psutil", "onnxruntime", "torch"} <= versions().keys()


def test_ones_own_time_is_not_others() -> None:
    watch, quiet, busy = Watch(), Usage(), Usage()
    program = "import time; end = time.perf_counter() + 0.5\nwhile time.perf_counter() < end: pass"
    with watch.burst(quiet) as own:
        own.append(0.0)
        time.sleep(0.2)
    with watch.burst(busy) as own:
        own.append(0.0)  # a stranger: nobody tells of its time
        subprocess.run([sys.executable, "-c", program], check=True)
    assert quiet.seconds == pytest.approx(0.2, abs=0.15)
    assert busy.others_s >= 0.25


def test_the_workers_time_is_taken_off() -> None:
    taken = []
    for told in (0.0, 0.4):
        usage = Usage()
        with Watch().burst(usage) as own:
            own.append(told)
            time.sleep(0.1)
        taken.append(usage.others_s)
    assert taken[0] - taken[1] == pytest.approx(0.4, abs=0.15)
