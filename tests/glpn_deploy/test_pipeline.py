"""Work ahead of the caller: in order, really at the same time, and ended by an error."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glpn_deploy.pipeline import ahead, grouped, in_order


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


def test_several_are_worked_on_at_once_and_come_in_order():
    both = threading.Barrier(2)

    def work(item):
        both.wait(30)  # breaks where one waits alone
        return item

    assert list(ahead(iter(range(6)), work, at_once=2)) == [0, 1, 2, 3, 4, 5]


def test_what_the_work_raises_ends_it_and_the_thread():
    def work(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(ahead(iter(range(100)), work))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glpn-pipeline")]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_groups_hold_one_key_wait_no_longer_than_they_may_and_are_put_back_in_order(keys, limit):
    taken = []

    def items():
        for number, key in enumerate(keys):
            taken.append(number)
            yield number, key

    groups = []
    for group in grouped(items(), lambda item: item[1], limit):
        groups.append(group)
        assert len({key for _, key in group}) == 1
        assert len(group) <= limit
        assert group == sorted(group)
        assert len(taken) - group[0][0] <= 4 * limit + 1
    back = list(in_order((group for group in groups), lambda item: item[0]))
    assert back == list(enumerate(keys))


def test_a_full_group_is_given_before_more_is_taken():
    taken = []
    groups = grouped((taken.append(n) or n for n in range(9)), lambda n: n % 2, 2)
    assert (next(groups), taken) == ([0, 2], [0, 1, 2])
    assert (next(groups), taken) == ([1, 3], [0, 1, 2, 3])
    groups.close()
    assert taken == [0, 1, 2, 3]
