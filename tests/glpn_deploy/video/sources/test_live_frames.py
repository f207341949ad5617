"""The newest frame of a source that does not wait; sources that die, freeze, come back, or never answer.

The sources are functions that hand over frames when the test lets them: nothing here depends on how fast
the machine is.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from glpn_deploy.errors import InputError, VideoError
from glpn_deploy.video.options import FrameOptions
from glpn_deploy.video.sources import live_frames
from glpn_deploy.video.sources.live_frames import LiveFrames, SourceWarning


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Connects again without waiting."""
    monkeypatch.setattr(live_frames, "_BACKOFF_S", 0.0)


class Camera:
    """Connections by script: numbers are frames, an exception dies, "freeze" waits, "wait" for `go`."""

    def __init__(self, *connections):
        self.connections = iter(connections)
        self.go, self.done, self.over = threading.Event(), threading.Event(), threading.Event()
        self.converted = []

    def read(self):
        for step in next(self.connections):
            if step == "freeze":
                self.over.wait(30)
                return
            elif step == "wait":
                self.done.set()
                assert self.go.wait(30)
            elif isinstance(step, Exception):
                raise step
            else:
                yield lambda step=step: self.converted.append(step) or np.full((32, 32, 3), step, np.uint8)


def live(camera, **options):
    return LiveFrames("camera:7", camera.read, FrameOptions(**options))


def numbers(found):
    return [int(frame.image[0, 0, 0]) for frame in found]


def test_the_newest_frame_is_given_and_the_others_are_counted():
    camera = Camera([1, "wait", 2, 3, 4, "freeze"])
    source = live(camera)
    found = iter(source)
    first = next(found)
    with source._grabber._changed:  # until three more have come
        camera.go.set()
        source._grabber._changed.wait_for(lambda: source._grabber.came == 4, 30)
    second = next(found)
    assert numbers([first, second]) == [1, 4]
    assert camera.converted == [1, 4]
    assert (first.index, second.index, source.dropped) == (0, 3, 2)
    assert first.pts == 0 < second.pts
    assert first.arrived <= second.arrived
    camera.over.set()
    found.close()


def test_a_source_that_dies_is_connected_to_again():
    camera = Camera([1, "wait", OSError("unplugged")], [2, "freeze"])
    source = live(camera)
    found = iter(source)
    first = next(found)
    camera.go.set()
    with pytest.warns(SourceWarning, match="unplugged"):
        second = next(found)
    assert numbers([first, second]) == [1, 2]
    assert source.reconnects == 1
    assert second.index == 1
    assert second.pts > first.pts
    camera.over.set()
    found.close()


def test_a_source_that_freezes_is_connected_to_again():
    camera = Camera([1, "freeze"], [2, "freeze"])
    source = live(camera, timeout=0.05)
    found = iter(source)
    with pytest.warns(SourceWarning, match=r"gave no frame for 0\.05 s"):
        assert numbers([next(found), next(found)]) == [1, 2]
    camera.over.set()
    found.close()


def test_connecting_again_has_a_limit():
    camera = Camera([1, "wait"], [OSError("a")], [OSError("b")], [OSError("c")])
    source = live(camera, reconnects=3)
    found = iter(source)
    next(found)
    camera.go.set()
    with pytest.warns(SourceWarning) as told, pytest.raises(VideoError) as error:
        next(found)
    assert len(told) == 3
    assert error.value.got == "camera:7: c"


def test_a_source_that_never_gave_a_frame_is_an_error_at_once():
    for step, said in ((OSError("no route to host"), "no route to host"), ("freeze", "gave no frame")):
        camera = Camera([step])
        with pytest.raises(VideoError) as error:
            next(iter(live(camera, timeout=0.05)))
        assert said in error.value.got
        camera.over.set()


def test_closing_ends_a_wait():
    camera = Camera([1, "freeze"])
    source = live(camera, timeout=60)
    found = iter(source)
    next(found)
    threading.Timer(0.05, source.close).start()
    assert list(found) == []
    camera.over.set()


@pytest.mark.parametrize("options", [{"start": 1}, {"every": 2}])
def test_options_for_files(options):
    with pytest.raises(InputError):
        live(Camera(), **options)


@pytest.fixture
def clock(monkeypatch):
    """The time of arrivals, in a list of one, to be moved by hand."""
    clock = [100.0]
    monkeypatch.setattr(live_frames, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


def test_an_end_counts_from_the_first_frame(clock):
    camera = Camera([1, "wait", 2, "freeze"])
    source = live(camera, end=10)
    found = iter(source)
    next(found)
    clock[0] += 10
    camera.go.set()
    assert list(found) == []
    camera.over.set()


def test_a_rate_waits_and_takes_what_is_newest_then(monkeypatch, clock):
    waits = []
    camera = Camera([1, "wait", 2, "freeze"])
    source = live(camera, fps=5)

    def wait(seconds):
        waits.append(seconds)
        camera.go.set()
        return False

    found = iter(source)
    first = next(found)
    clock[0] += 0.05
    monkeypatch.setattr(source._closed, "wait", wait)
    second = next(found)
    assert waits == [pytest.approx(0.15)]  # 200 ms from the first frame's arrival
    assert second.arrived == pytest.approx(first.arrived + 0.05)
    camera.over.set()
    found.close()
