"""Work ahead of the caller: in order, really at the same time, and ended by an error."""

from __future__ import annotations

import threading

import pytest

from glpn_deploy.pipeline import ahead


def test_items_come_in_order():
    assert list(ahead(iter(range(5)), lambda item: item * item)) == [0, 1, 4, 9, 16]
    assert list(ahead([], str)) == []


def test_work_runs_while_the_caller_has_the_item_before():
    taken, worked = threading.Event(), threading.Event()

    def work(item):
        if item == 2:
            worked.set()
            assert taken.wait(30)
        return item

    items = ahead(iter((1, 2)), work)
    assert next(items) == 1
    assert worked.wait(30)  # the work on 2 has begun, though nobody has asked for it
    taken.set()
    assert list(items) == [2]


def test_it_is_one_item_ahead_and_no_more():
    taken = []

    def items():
        for item in range(9):
            taken.append(item)
            yield item

    found = ahead(items(), lambda item: item)
    assert next(found) == 0
    found.close()
    assert taken in ([0], [0, 1])


def test_steps_behind_each_other_end_together():
    closed = []

    def items():
        try:
            yield from range(9)
        finally:
            closed.append(True)

    found = ahead(ahead(items(), lambda item: item + 1), lambda item: 10 * item)
    assert [next(found), next(found)] == [10, 20]
    found.close()
    assert closed == [True]


def test_what_the_work_raises_ends_it_and_the_thread():
    def work(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(ahead(iter(range(100)), work))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glpn-pipeline")]
