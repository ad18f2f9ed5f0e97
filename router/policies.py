"""Which worker a request goes to."""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from router.workers import Worker


class Policy(ABC):
    """Chooses one of the healthy workers of a role."""

    @abstractmethod
    def choose(self, workers: Sequence[Worker]) -> Worker:
        """One of `workers`, which is never empty."""


class RoundRobin(Policy):
    """Each worker in turn, counted apart for each set of workers."""

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()

    def choose(self, workers: Sequence[Worker]) -> Worker:
        """The next in turn."""
        key = workers[0].model or ""
        self._turns[key] += 1
        return workers[(self._turns[key] - 1) % len(workers)]


class Random(Policy):
    """Any worker, with equal chance."""

    def choose(self, workers: Sequence[Worker]) -> Worker:
        """One at random."""
        return random.choice(workers)


class PowerOfTwo(Policy):
    """The less loaded of two random workers (Mitzenmacher 2001)."""

    def choose(self, workers: Sequence[Worker]) -> Worker:
        """The one of two with fewer requests in flight."""
        if len(workers) < 2:
            return workers[0]
        return min(random.sample(workers, 2), key=lambda worker: worker.load)


POLICIES: dict[str, type[Policy]] = {"round_robin": RoundRobin, "random": Random, "power_of_two": PowerOfTwo}
