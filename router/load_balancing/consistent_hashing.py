"""The policy `consistent_hashing`: a session's requests go to one worker, the same in every process."""

import random
from collections.abc import Sequence
from typing import ClassVar

from router.load_balancing.policy import BranchingPolicy, InProcesses
from router.load_balancing.rendezvous import owner
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.workers.worker import Worker


class ConsistentHashing(BranchingPolicy):
    """Chooses by a hash of the routing key, or else of what tells the client; without either, a random worker.

    A key whose worker may not get the request goes to the key's next one. Credentials tell no client, as in smg and
    unlike sglang-router: all clients of one key would meet on one worker.
    """

    obeys_target: ClassVar[bool] = True
    in_processes: ClassVar[InProcesses] = "alike"
    branch_metric: ClassVar[str] = "smg_consistent_hashing_policy_branch"

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the key's worker. Where the client names a worker, it is the only one given."""
        if context.target_worker is not None:
            self.branches["target_worker_hit"] += 1
        elif context.routing_key is not None:
            self.branches["routing_key_hit"] += 1
            return owner(workers, context.routing_key)
        elif context.client is not None:
            self.branches["implicit_key_hit"] += 1
            return owner(workers, context.client)
        else:
            self.branches["random_fallback"] += 1
        return random.choice(workers)
