"""The policy `manual`: a session stays on its worker for as long as that may get requests."""

import random
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from router.load_balancing.policy import BranchingPolicy
from router.load_balancing.rendezvous import owner
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.load_balancing.settings import PolicySettings
from router.load_balancing.sticky_table import StickyTable
from router.workers.worker import Worker


class Manual(BranchingPolicy):
    """Chooses the worker that a routing key was given to, and gives new keys out as `assignment_mode` says.

    A worker that joins takes no key from another. While a key's worker may not get requests, another one stands in,
    always the same if it can; then the key returns.

    With the mode `random`, the worker of a new key follows from a hash of it. So the processes of a router, which have
    tables of their own, agree as long as the workers stay the same.

    Attributes:
        table: The keys and their workers.
    """

    branch_metric: ClassVar[str] = "smg_manual_policy_branch"

    def __init__(self, settings: PolicySettings | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        settings = settings or PolicySettings()
        self._mode = settings.assignment_mode
        self.table = StickyTable(settings.max_routing_keys, settings.max_idle_secs, clock=clock)

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the key's worker; without a key, one as for a new key."""
        key = context.routing_key
        if key is None:
            self.branches["no_routing_id"] += 1
            return self._assigned(workers, None)
        homes = self.table.homes(context.model, key)
        for url in homes:
            for worker in workers:
                if worker.url == url:
                    self.branches["occupied_hit"] += 1
                    return worker
        self.branches["occupied_miss" if homes else "vacant"] += 1
        chosen = self._assigned(workers, key)
        self.table.assign(context.model, key, chosen.url)
        return chosen

    def _assigned(self, workers: Sequence[Worker], key: bytes | None) -> Worker:
        """The worker for a new key, or for a request without one; ties are drawn."""
        if self._mode == "min_load":
            return min(workers, key=lambda worker: (worker.load.in_flight, random.random()))
        if self._mode == "min_group":
            return min(workers, key=lambda worker: (self.table.keys_at(worker.url), random.random()))
        return random.choice(workers) if key is None else owner(workers, key)
