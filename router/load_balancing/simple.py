"""Policies that do not look at the prompt."""

import random
from collections.abc import Sequence
from itertools import count
from weakref import WeakKeyDictionary

from router.load_balancing.policy import Policy
from router.load_balancing.prefix import PromptPrefix
from router.workers.worker import Worker


class RoundRobin(Policy):
    """Each worker in turn: the one whose last turn is longest ago.

    Turns rather than an index into the list: workers that stay get equal shares while others come
    and go, and one that comes back has not saved up the turns it missed.
    """

    def __init__(self) -> None:
        self._turns: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()
        self._next = count(1)

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """The next in turn; a worker that never had one comes first."""
        chosen = workers[0] if len(workers) == 1 else min(workers, key=lambda worker: self._turns.get(worker, 0))
        self._turns[chosen] = next(self._next)
        return chosen


class Random(Policy):
    """Any worker, with equal chance."""

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """One at random."""
        return random.choice(workers)


class PowerOfTwo(Policy):
    """The less loaded of two random workers (Mitzenmacher 2001)."""

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """The one of two with fewer requests in flight."""
        if len(workers) < 2:
            return workers[0]
        return min(random.sample(workers, 2), key=lambda worker: worker.load)
