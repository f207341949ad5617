"""Work on a sequence in steps that run beside each other, each in order and in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
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
