"""The policy `prefix_hash`: prompts that begin alike go to one worker, unless it is overloaded."""

from collections.abc import Sequence
from typing import ClassVar

from router.load_balancing.policy import BranchingPolicy, InProcesses
from router.load_balancing.prompt_prefix import TOKEN_CHARACTERS, PromptPrefix
from router.load_balancing.rendezvous import in_order, owner
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.load_balancing.settings import PolicySettings
from router.workers.worker import Worker


class PrefixHash(BranchingPolicy):
    """Chooses by a hash of the prompt's beginning, or of the routing key where there is one.

    A worker is overloaded when its load exceeds the average both by a factor and by a number of requests; then the
    prompt goes to its next worker that is not, so that a prompt with many requests stays on few workers. Without a
    prompt and a key, the least loaded worker gets it.
    """

    in_processes: ClassVar[InProcesses] = "told"
    branch_metric: ClassVar[str] = "smg_prefix_hash_policy_branch"

    def __init__(self, settings: PolicySettings | None = None) -> None:
        super().__init__()
        self._settings = settings or PolicySettings()

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose by the prompt's beginning."""
        key = context.routing_key
        if key is None and context.prompt is not None:
            key = self._beginning(context.prompt)
        if key is None:
            self.branches["no_routing_key"] += 1
            return min(workers, key=lambda worker: worker.load.in_flight)
        first = owner(workers, key)
        limit = self._limit(workers)
        if first.load.in_flight <= limit:
            self.branches["ring_hit"] += 1
            return first
        self.branches["load_balance_walk"] += 1
        # The least loaded worker is never over the limit, which is above the average.
        return next(worker for worker in in_order(workers, key) if worker.load.in_flight <= limit)

    def _beginning(self, prompt: PromptPrefix) -> bytes:
        """The first tokens of a prompt, or the characters that take about as many; of each kind apart."""
        length = self._settings.prefix_token_count * (1 if prompt.kind == "tokens" else TOKEN_CHARACTERS)
        return f"{prompt.kind} {prompt.chars[:length]}".encode("utf-8", "surrogatepass")

    def _limit(self, workers: Sequence[Worker]) -> float:
        """The highest load that is no overload; the request to come counts too."""
        average = (sum(worker.load.in_flight for worker in workers) + 1) / len(workers)
        settings = self._settings
        return max(average * settings.prefix_hash_load_factor, average + settings.prefix_hash_balance_abs_threshold)
