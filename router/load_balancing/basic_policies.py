"""Policies that ignore the prompt: round robin, random, power of two choices."""

import random
from collections.abc import Sequence
from itertools import count
from weakref import WeakKeyDictionary

from router.load_balancing.policy import Policy
from router.load_balancing.prompt_prefix import PromptPrefix
from router.workers.worker import Worker


class RoundRobin(Policy):
    """The worker that was chosen longest ago.

    The time of the last choice is kept instead of an index into the list, so that the workers that stay get equal
    shares while others come and go.
    """

    def __init__(self) -> None:
        self._last_chosen: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()
        self._choices = count(1)

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """Choose the next worker; one that was never chosen comes first."""
        chosen = workers[0] if len(workers) == 1 else min(workers, key=lambda worker: self._last_chosen.get(worker, 0))
        self._last_chosen[chosen] = next(self._choices)
        return chosen


class Random(Policy):
    """A random worker, with equal probability."""

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """Choose a random worker."""
        return random.choice(workers)


class PowerOfTwo(Policy):
    """The less loaded of two random workers (Mitzenmacher 2001)."""

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """Choose the one of two random workers that has fewer requests in flight."""
        if len(workers) < 2:
            return workers[0]
        return min(random.sample(workers, 2), key=lambda worker: worker.load)
