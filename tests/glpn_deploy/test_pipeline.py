"""Work beside the making of the next item: in order, really at the same time, and ended by an error."""

from __future__ import annotations

import threading

import pytest

from glpn_deploy.pipeline import beside


def test_items_come_in_order():
    assert list(beside(iter(range(5)), lambda item: item * item)) == [0, 1, 4, 9, 16]
    assert list(beside([], str)) == []


def test_work_runs_while_the_next_item_is_made():
    made, worked = threading.Event(), []

    def items():
        yield 1
        made.set()  # reached only if the work on 1 does not hold this up
        yield 2

    def work(item):
        worked.append((item, made.wait(30)))

    list(beside(items(), work))
    assert worked == [(1, True), (2, True)]


def test_what_the_work_raises_ends_it_and_the_thread():
    def work(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(beside(iter(range(100)), work))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glpn-pipeline")]
