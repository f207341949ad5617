"""What the workers of a job are at, kept apart from them: one that is killed cannot say what killed it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

KILLED_BY = 2  # deaths with the same image alone in hand, until the image is taken for their cause
MOST_ATTEMPTS = 12  # at a block; deaths that no image explains
MOST_STARTS = 8  # of workers that die before their network is loaded


class Begun(NamedTuple):
    """How a worker shall go through a block.

    Attributes:
        singly: One image at a time, each noted before: a worker has died of this block.
        killers: Images that are left out, for they end the process.
        hopeless: Leave all of it out: the block ended too many workers.
    """

    singly: bool
    killers: frozenset[str]
    hopeless: bool


class Ledger:
    """Runs as an actor beside the driver, and ends with it."""

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}  # of blocks that are under way
        self._since: dict[str, tuple[float, str]] = {}
        self._noted: dict[str, dict[str, int]] = {}
        self._in_hand: dict[str, str] = {}
        self._starts = self._ready = self._deaths = 0
        self._refusal: tuple[str, str, str] | None = None
        self._runtime: dict[str, Any] = {}

    def starting(self) -> bool:
        """A worker starts; False where it need not try."""
        self._starts += 1
        return self._starts - self._ready <= MOST_STARTS or self._ready > 0

    def ready(self, runtime: dict[str, Any]) -> None:
        """A worker has loaded its network."""
        self._ready += 1
        self._runtime = runtime

    def refused(self, got: str, expected: str, fix: str) -> None:
        """A worker cannot run what it was given, for a reason that people can act on."""
        self._refusal = (got, expected, fix)

    def begin(self, block: str, first: str) -> Begun:
        """A worker begins a block; it did before, where the worker that had it is gone."""
        attempts = self._attempts[block] = self._attempts.get(block, 0) + 1
        self._since[block] = (time.time(), first)
        noted = self._noted.setdefault(block, {})
        if attempts > 1:
            self._deaths += 1
        killer = self._in_hand.pop(block, None)
        if killer is not None:
            noted[killer] = noted.get(killer, 0) + 1
        killers = frozenset(path for path, deaths in noted.items() if deaths >= KILLED_BY)
        return Begun(attempts > 1, killers, attempts > MOST_ATTEMPTS)

    def note(self, block: str, path: str) -> None:
        """An image is alone in a worker's hand."""
        self._in_hand[block] = path

    def end(self, block: str) -> None:
        """A block is done."""
        for kept in (self._attempts, self._since, self._noted, self._in_hand):
            kept.pop(block, None)

    def state(self) -> dict[str, Any]:
        """Counts of starts, workers ready and deaths, why they cannot run, and what is under way."""
        return {
            "starts": self._starts,
            "ready": self._ready,
            "deaths": self._deaths,
            "refusal": self._refusal,
            "runtime": self._runtime,
            "under_way": sorted(self._since.values()),
        }
