"""Work on a sequence in three steps, of which the first and the last run beside the middle one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Finished = TypeVar("Finished")


def pipelined(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    compute: Callable[[Prepared], Computed],
    finish: Callable[[Computed], Finished],
) -> Generator[Finished, None, None]:
    """Yields ``finish(compute(prepare(item)))`` of every item, in order.

    While one item is computed, in the caller's thread, the next one is prepared and the one before
    finished, each in a thread; at most three items are in memory. The first error ends it, in the order
    of the items. Ended early, by an error, Ctrl-C or the caller, it waits for the step that runs.
    """
    waiting = iter(items)
    pool = ThreadPoolExecutor(2, thread_name_prefix="glpn-pipeline")

    def ahead() -> Future[Prepared] | None:
        for item in waiting:
            return pool.submit(prepare, item)
        return None

    try:
        preparing, finishing = ahead(), None
        while preparing is not None:
            prepared = preparing.result()
            preparing = ahead()
            computed = compute(prepared)
            before, finishing = finishing, pool.submit(finish, computed)
            if before is not None:
                yield before.result()
        if finishing is not None:
            yield finishing.result()
    finally:
        pool.shutdown(cancel_futures=True)
