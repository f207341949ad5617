"""Work on a sequence in steps that run beside each other, each in order and in a thread of its own."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], at_once: int = 1
) -> Generator[Result, None, None]:
    """Yields ``work(item)`` of every item, in order, one item (or ``at_once``) ahead of the caller.

    One thread takes items, and as many as work ``at_once`` work on them. The next item is started on when the
    caller takes a result, and waits while the caller has not come back for those that are done. Steps are put
    behind each other by nesting. The first error ends it. Ended early, by an error, Ctrl-C or the caller,
    it waits for the work that runs, and closes ``items`` where that is a generator.
    """
    waiting = iter(items)
    taker, workers = (ThreadPoolExecutor(count, thread_name_prefix="glpn-pipeline") for count in (1, at_once))

    def take() -> list[Future[Result]]:
        for item in waiting:
            return [workers.submit(work, item)]
        return []

    try:
        taking = deque(taker.submit(take) for _ in range(at_once))
        while found := taking.popleft().result():
            result = found.pop().result()
            taking.append(taker.submit(take))
            yield result
    finally:
        taker.shutdown(cancel_futures=True)
        workers.shutdown(cancel_futures=True)
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
