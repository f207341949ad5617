"""Ctrl-C as a request, a second one at once, and a run in a thread, which gets no signals."""

from __future__ import annotations

import signal
import threading

import pytest

from glpn_deploy.training.interruption import stop_requested
from glpn_deploy.training.trainer import train


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_one_interrupts(number):
    before = signal.getsignal(number)
    with stop_requested() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_thread_trains_without_signals(options):
    done = []
    thread = threading.Thread(target=lambda: done.append(train(options(epochs=1))))
    thread.start()
    thread.join()
    assert done[0].steps == 4
