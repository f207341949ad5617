"""Compiled networks by shape: a few fixed ones, and the dynamic one for streams of ever-changing sizes."""

from __future__ import annotations

import threading
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Network = TypeVar("Network")
Shape = tuple[int, ...]
LIMIT = 4
"""Networks of fixed shape at a time, unless asked for others: each holds the weights again."""


class Specializer(Generic[Network]):
    """Decides which shapes are worth a network of their own.

    The first shape gets one at once, for most programs only ever see one. A later shape runs on the
    dynamic network and gets its own when it comes again. Where there is no room, it takes the place of
    the least recently used one only if it came more than twice as often among the last `WINDOW` runs:
    a stream that changes all the time, or goes round more shapes than there is room for, stays on the
    dynamic network instead of compiling at every run.

    Safe to use from several threads; one that asks for a shape waits while another is compiled.

    Args:
        compile: Makes a network for a shape, or the dynamic one for None.
        limit: Most networks of fixed shape at a time.
        warn: Whether more would be possible, and is advised.

    Attributes:
        dynamic_runs: How often the dynamic network was given.
        evictions: How often a network made place for another.

    Warns:
        UserWarning: A shape comes again and again for which there is no room; once.
    """

    WINDOW = 64

    def __init__(
        self, compile: Callable[[Shape | None], Network], limit: int = LIMIT, warn: bool = True
    ) -> None:
        self._compile, self._limit = compile, limit
        self.dynamic_runs = self.evictions = 0
        self._warned = not warn
        self._fixed: OrderedDict[Shape, Network] = OrderedDict()
        self._dynamic: Network | None = None
        self._recent: deque[Shape] = deque(maxlen=self.WINDOW)
        self._lock = threading.Lock()

    @property
    def shapes(self) -> list[Shape]:
        """The shapes that have a network of their own, the least recently used first."""
        return list(self._fixed)

    def network(self, shape: Shape, *, own: bool = False) -> Network:
        """The network that shall run this shape, compiled if need be.

        Args:
            shape: Of the input.
            own: Give it one of its own in any case, in the place of the least recently used one.
        """
        with self._lock:
            self._recent.append(shape)
            if shape in self._fixed:
                self._fixed.move_to_end(shape)
                return self._fixed[shape]
            if own or self._worth(shape):
                if len(self._fixed) == self._limit:  # before compiling: the two need not fit into memory
                    self._fixed.popitem(last=False)
                    self.evictions += 1
                self._fixed[shape] = self._compile(shape)
                return self._fixed[shape]
            if self._dynamic is None:
                self._dynamic = self._compile(None)
            self.dynamic_runs += 1
            self._warn_of_no_room(shape)
            return self._dynamic

    def describe(self) -> dict[str, Any]:
        """The counts that are not 0, for reports."""
        counts = {"dynamic_runs": self.dynamic_runs, "evictions": self.evictions}
        return {name: count for name, count in counts.items() if count}

    def _warn_of_no_room(self, shape: Shape) -> None:
        if self._warned or len(self._fixed) < self._limit or self._recent.count(shape) < 3:
            return
        often = sum(count > 2 for count in Counter(self._recent).values())
        if often <= self._limit:  # this one takes another's place soon
            return
        self._warned = True
        warnings.warn(
            f"{often} input sizes come again and again, and {self._limit} have a network of their own; the "
            f"others run on the dynamic one, which is slower. Allow more where there is memory for them "
            f"(--cached-shapes {often}, cached_shapes={often}), or show the network one size (--input-size).",
            stacklevel=2,
        )

    def _worth(self, shape: Shape) -> bool:
        if not self._fixed and self._dynamic is None:
            return True
        seen = self._recent.count(shape)
        if len(self._fixed) < self._limit:
            return seen > 1
        oldest = next(iter(self._fixed))
        return seen > 2 * max(1, self._recent.count(oldest))

    def clear(self) -> None:
        """Lets go of all networks."""
        with self._lock:
            self._fixed.clear()
            self._dynamic = None
