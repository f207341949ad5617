"""A build's progress as TensorRT reports it, and Ctrl-C while it runs."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from glpn_deploy.exporters.engine.engine_progress import UNITS, Watch, make_monitor, run_cancellable


class Bar:
    def __init__(self):
        self.units, self.details = 0, []

    def advance(self, detail=""):
        self.units += 1
        self.details.append(detail)

    def finish(self, summary):
        pass


def test_phases_within_phases():
    bar = Bar()
    watch = Watch(bar)
    watch.start("build", None, 4)
    assert watch.complete("build", 0)
    assert bar.units == 25
    watch.start("timing", "build", 5)  # within the second quarter
    watch.complete("timing", 1)
    assert bar.units == 35
    watch.start("tactics", "timing", 2)  # within the third of its fifths
    watch.complete("tactics", 0)
    assert bar.units == 37
    assert bar.details[-1] == "tactics"
    watch.finish("tactics")
    watch.finish("timing")  # before all of its steps: no harm
    watch.complete("timing", 4)
    assert bar.units == 37
    for step in (1, 2, 3, 4, 5):
        watch.complete("build", step)
    assert bar.units == UNITS
    watch.start("again", None, 10)
    watch.complete("again", 0)
    assert bar.units == UNITS


def test_odd_reports_do_no_harm():
    watch = Watch(Bar())
    watch.start("empty", "a parent never named", 0)
    assert watch.complete("empty", 0)
    assert watch.complete("unknown", 3)
    watch.finish("unknown")


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3", "11.4.0"])
def test_the_monitor_overrides_what_tensorrt_calls(tensorrt_stand_in, version):
    trt = tensorrt_stand_in(version)
    bar = Bar()
    watch = Watch(bar)
    monitor = make_monitor(trt, watch)
    assert isinstance(monitor, trt.IProgressMonitor)
    assert trt.called("IProgressMonitor.__init__") == [()]  # pybind11 wants it called
    overridden = {name for name in vars(type(monitor)) if not name.startswith("__")}
    assert overridden == {"phase_start", "step_complete", "phase_finish"}
    # TensorRT calls by position
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    assert bar.units == 50
    watch.cancelled = True
    assert monitor.step_complete("build", 1) is False
    monitor.phase_finish("build")


def test_8_6_has_no_monitor(tensorrt_stand_in):
    assert make_monitor(tensorrt_stand_in("8.6.0"), Watch(Bar())) is None


def test_results_and_errors_come_through():
    assert run_cancellable(lambda: 7, Watch(Bar()), heeded=True) == 7
    with pytest.raises(ZeroDivisionError):
        run_cancellable(lambda: 1 // 0, Watch(Bar()), heeded=False)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("heeded", [True, False])
def test_ctrl_c_cancels(heeded):
    watch = Watch(Bar())
    started, ended, release = threading.Event(), threading.Event(), threading.Event()

    def build():
        started.set()
        while not (watch.cancelled if heeded else release.is_set()):
            time.sleep(0.005)
        ended.set()

    def interrupt():
        started.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_cancellable(build, watch, heeded=heeded)
    assert watch.cancelled
    assert ended.is_set() is heeded  # a build that cannot be told is not waited for
    release.set()
