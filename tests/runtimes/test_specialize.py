"""Which shapes get a network of their own, and which streams stay on the dynamic one."""

from __future__ import annotations

import random
import threading

import pytest

from glpn_deploy.runtimes.specialize import Specializer


class Counted:
    """A compiler that answers with the shape and keeps what it was asked for."""

    def __init__(self, limit: int = 4) -> None:
        self.compiled: list[tuple[int, ...] | None] = []
        self.specializer = Specializer(self._compile, limit)

    def _compile(self, shape):
        self.compiled.append(shape)
        return "dynamic" if shape is None else shape

    def run(self, shapes):
        return [self.specializer.network(shape) for shape in shapes]


A, B, C, D, E, F = ((1, 3, 32 * i, 64) for i in range(1, 7))


def test_the_first_shape_gets_its_own_at_once():
    counted = Counted()
    assert counted.run([A, A, A]) == [A, A, A]
    assert counted.compiled == [A]


def test_a_shape_that_is_asked_for_gets_its_own_and_keeps_it():
    counted = Counted()
    counted.run([A, B, B, C, C, D, D] * 3)
    assert counted.specializer.network(E, own=True) == E
    done = len(counted.compiled)
    assert counted.run([E, E, E]) == [E, E, E]
    assert len(counted.compiled) == done
    assert len(counted.specializer.shapes) == 4


def test_a_later_shape_gets_its_own_when_it_comes_again():
    counted = Counted()
    assert counted.run([A, B, A, B, B]) == [A, "dynamic", A, B, B]
    assert counted.compiled == [A, None, B]


def test_ever_changing_sizes_compile_twice_in_all():
    counted = Counted()
    answers = counted.run([(1, 3, 32 * i, 64) for i in range(1, 200)])
    assert counted.compiled == [(1, 3, 32, 64), None]
    assert set(answers[1:]) == {"dynamic"}


@pytest.mark.filterwarnings("ignore:[0-9]+ input sizes come again")
def test_more_shapes_than_room_in_turns_do_not_push_each_other_out():
    counted = Counted()
    answers = counted.run([A, B, C, D, E] * 40)
    assert counted.compiled == [A, None, B, C, D]
    assert answers[-5:] == [A, B, C, D, "dynamic"]


@pytest.mark.filterwarnings("ignore:[0-9]+ input sizes come again")
def test_a_stream_that_moves_on_gets_new_networks():
    counted = Counted()
    counted.run([A, B, C, D] * 5)
    answers = counted.run([E] * 100)
    assert answers[0] == "dynamic"
    assert answers[-1] == E
    assert counted.specializer.shapes == [B, C, D, E]  # A was not used for longest
    assert counted.run([B]) == [B]
    assert counted.specializer.shapes[-1] == B


@pytest.mark.filterwarnings("ignore:[0-9]+ input sizes come again")
def test_never_more_than_the_limit():
    counted, rng = Counted(limit=2), random.Random(0)
    for _ in range(500):
        (answer,) = counted.run([shape := rng.choice([A, A, A, A, B, C, D, E, F])])
        assert answer in (shape, "dynamic")
        assert len(counted.specializer.shapes) <= 2
    assert len(counted.compiled) < 20


def test_a_shape_that_fails_to_compile_can_be_asked_for_again():
    def fail(shape):
        raise MemoryError

    specializer = Specializer(fail)
    for _ in range(2):
        with pytest.raises(MemoryError):
            specializer.network(A)
    assert specializer.shapes == []


def test_threads_compile_a_shape_once():
    counted = Counted()
    threads = [threading.Thread(target=counted.run, args=([A] * 50,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.compiled == [A]


def test_cleared():
    counted = Counted()
    counted.run([A, B])
    counted.specializer.clear()
    assert counted.specializer.shapes == []


def test_what_has_no_room_is_counted_and_said_once():
    counted = Counted(limit=2)
    with pytest.warns(UserWarning, match="--cached-shapes 3") as said:
        counted.run([A, B, C] * 8)
    assert len(said) == 1
    # Of C's runs none had room, of B's the first came before its network.
    assert counted.specializer.describe() == {"dynamic_runs": 9}
    counted.run([C] * 40)
    assert counted.specializer.evictions == 1


def test_room_for_all_says_nothing():
    counted = Counted(limit=3)
    counted.run([A, B, C] * 8)
    assert counted.specializer.describe() == {"dynamic_runs": 2}
