"""Work on a sequence in steps that run beside each other, each in order and in a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], work: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """Yields ``work(item)`` of every item, in order, one item ahead of the caller.

    Taking an item and working on it happen in one thread, which starts on the next item when the caller
    takes a result, and waits while the caller has not come back for the one that is done. Steps are put
    behind each other by nesting. The first error ends it. Ended early, by an error, Ctrl-C or the caller,
    it waits for the work that runs, and closes ``items`` where that is a generator.
    """
    waiting, pool = iter(items), ThreadPoolExecutor(1, thread_name_prefix="glpn-pipeline")

    def take() -> list[Result]:
        for item in waiting:
            return [work(item)]
        return []

    try:
        taking = pool.submit(take)
        while found := taking.result():
            taking = pool.submit(take)
            yield found.pop()
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(waiting, Generator):
            waiting.close()


def grouped(
    items: Generator[Item, None, None], key: Callable[[Item], Hashable], limit: int
) -> Generator[list[Item], None, None]:
    """Yields items of one key together, so that their order changes: `in_order` mends it.

    A group is given when it has ``limit`` items, or when four times as many were taken since its first: what
    is rare neither waits for the end nor holds up the rest.
    """
    groups: dict[Hashable, tuple[int, list[Item]]] = {}
    with contextlib.closing(items):
        for number, item in enumerate(items):
            groups.setdefault(key(item), (number, []))[1].append(item)
            done = [
                name
                for name, (first, group) in groups.items()
                if len(group) == limit or number - first >= 4 * limit
            ]
            for name in done:
                yield groups.pop(name)[1]
        for _, group in groups.values():
            yield group


def in_order(
    groups: Generator[list[Item], None, None], number: Callable[[Item], int]
) -> Generator[Item, None, None]:
    """Yields the items of groups in the order of their numbers 0, 1, 2 ..., each as soon as it can be."""
    waiting: dict[int, Item] = {}
    following = 0
    with contextlib.closing(groups):
        for group in groups:
            waiting.update((number(item), item) for item in group)
            while following in waiting:
                yield waiting.pop(following)
                following += 1
