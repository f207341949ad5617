"""Work on a sequence in three steps, of which the first and the last run beside the middle one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Finished = TypeVar("Finished")


def pipelined(
    prepared: Iterable[Prepared],
    compute: Callable[[Prepared], Computed],
    finish: Callable[[Computed], Finished],
) -> Generator[Finished, None, None]:
    """Yields ``finish(compute(item))`` of every prepared item, in order.

    While one item is computed, in the caller's thread, the next one is taken from ``prepared`` and the one
    before finished, each in a thread; at most three items are in memory. The first error ends it, in the
    order of the items. Ended early, by an error, Ctrl-C or the caller, it waits for the step that runs.
    """
    waiting, pool = iter(prepared), ThreadPoolExecutor(2, thread_name_prefix="glpn-pipeline")

    def take() -> list[Prepared]:
        for item in waiting:
            return [item]
        return []

    try:
        taking, finishing = pool.submit(take), None
        while found := taking.result():
            taking = pool.submit(take)
            computed = compute(found.pop())
            before: Future[Finished] | None = finishing
            finishing = pool.submit(finish, computed)
            if before is not None:
                yield before.result()
        if finishing is not None:
            yield finishing.result()
    finally:
        pool.shutdown(cancel_futures=True)


def beside(
    items: Iterable[Prepared], work: Callable[[Prepared], Finished]
) -> Generator[Finished, None, None]:
    """Yields ``work(item)`` of every item, in order; it runs in a thread while the next item is made.

    The first error ends it. Ended early, it waits for the work that runs.
    """
    before: Future[Finished] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="glpn-pipeline") as pool:
        for item in items:
            after = pool.submit(work, item)
            if before is not None:
                yield before.result()
            before = after
        if before is not None:
            yield before.result()
