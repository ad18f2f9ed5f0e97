"""Policies that ignore the prompt: round robin, random, power of two choices, passthrough."""

import logging
import random
from collections.abc import Sequence
from itertools import count
from typing import ClassVar
from weakref import WeakKeyDictionary

from router.load_balancing.load_estimates import requests_on
from router.load_balancing.policy import InProcesses, Policy
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.workers.worker import Worker

logger = logging.getLogger(__name__)


class RoundRobin(Policy):
    """The worker that was chosen longest ago.

    The time of the last choice is kept instead of an index into the list, so that the workers that stay get equal
    shares while others come and go.

    Args:
        first: The place, among workers that were never chosen, of the one that comes first. Several processes of a
            router begin with different ones.
    """

    in_processes: ClassVar[InProcesses] = "alike"

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._last_chosen: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()
        self._choices = count(1)

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the next worker; one that was never chosen comes first."""
        start = self._first % len(workers)
        in_order = (*workers[start:], *workers[:start]) if start else workers
        chosen = min(in_order, key=lambda worker: self._last_chosen.get(worker, 0))
        self._last_chosen[chosen] = next(self._choices)
        return chosen


class Random(Policy):
    """A random worker, with equal probability."""

    in_processes: ClassVar[InProcesses] = "alike"

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose a random worker."""
        return random.choice(workers)


class PowerOfTwo(Policy):
    """The less loaded of two random workers (Mitzenmacher 2001), by `load_estimates.requests_on`."""

    uses_server_loads: ClassVar[bool] = True
    in_processes: ClassVar[InProcesses] = "told"

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the one of two random workers that has fewer requests."""
        if len(workers) < 2:
            return workers[0]
        first, second = random.sample(workers, 2)
        on_first, on_second = requests_on((first, second))
        return first if on_first <= on_second else second


class Passthrough(Policy):
    """The first worker: for a router before one server, where nothing is to be balanced."""

    in_processes: ClassVar[InProcesses] = "alike"

    def __init__(self) -> None:
        self._warned = False

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the first worker; says once in the log that others are left out."""
        if len(workers) > 1 and not self._warned:
            self._warned = True
            logger.warning(
                "the policy passthrough sends everything to %s, of %d workers.", workers[0].url, len(workers)
            )
        return workers[0]
