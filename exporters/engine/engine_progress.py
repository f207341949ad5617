"""TensorRT's build told as progress, and ended by Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from glpn_deploy.progress import Step

UNITS = 100
"""Units of the step that a monitor advances."""

_WAKE_S = 0.2  # how often the waiting thread looks up; Windows delivers Ctrl-C only then
_CANCEL_S = 120.0  # TensorRT ends a build between two of its steps

T = TypeVar("T")


class Watch:
    """Follows a build from TensorRT's threads: how far it is, and whether it shall go on.

    Phases nest: each takes the share of one step of its parent. What is shown never goes back.

    Args:
        step: Advanced by `UNITS` in all.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[float, float, int]] = {}  # where it begins, its share, its steps
        self._reached: dict[str, float] = {}
        self._shown = 0
        self.cancelled = False

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins within one step of another."""
        with self._lock:
            begin, share = 0.0, 1.0
            if parent in self._phases:
                _, above, count = self._phases[parent]
                begin, share = self._reached[parent], above / count
            self._phases[phase] = (begin, share, max(steps, 1))
            self._reached[phase] = begin

    def complete(self, phase: str, step: int) -> bool:
        """A step of a phase is done; False asks TensorRT to stop."""
        with self._lock:
            if phase in self._phases:
                begin, share, steps = self._phases[phase]
                self._reached[phase] = begin + share * min(step + 1, steps) / steps
                reached = int(UNITS * min(self._reached[phase], 1.0) + 1e-6)
                for _ in range(self._shown, reached):
                    self._step.advance(phase)
                self._shown = max(self._shown, reached)
            return not self.cancelled

    def finish(self, phase: str) -> None:
        """A phase has ended, whether or not all of its steps were done."""
        with self._lock:
            self._phases.pop(phase, None)
            self._reached.pop(phase, None)


def make_monitor(module: Any, watch: Watch) -> Any:
    """TensorRT's view of a watch.

    Returns:
        An ``IProgressMonitor``; None where the version has none (8.6).
    """
    if not hasattr(module, "IProgressMonitor"):
        return None

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # the bindings carry no types
        """Called by TensorRT, from any of its threads."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins."""
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step is done."""
            return watch.complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends."""
            watch.finish(phase_name)

    return Monitor()


def run_cancellable(work: Callable[[], T], watch: Watch, *, heeded: bool) -> T:
    """Runs a build in a thread of its own, so that Ctrl-C reaches this one.

    Signals that arrive while TensorRT calls back into Python would otherwise be swallowed there.

    Args:
        work: The build. It must write nothing: on 8.6, which cannot be told to stop, it may outlive this
            call by minutes.
        heeded: Whether the build asks the watch; then its end is waited for.

    Returns:
        What ``work`` returned; what it raised is raised here.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again where it is waited for
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    try:
        thread.start()  # within, since Ctrl-C may arrive before it returns
        while not done.wait(_WAKE_S):
            pass
    except BaseException:
        watch.cancelled = True
        if heeded:
            done.wait(_CANCEL_S)
        raise
    if errors:
        raise errors[0]
    return results[0]
