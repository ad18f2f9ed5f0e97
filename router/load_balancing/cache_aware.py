"""The worker whose KV cache likely holds the prompt's begin, unless the load is too uneven.

The rule and its parameters are those of sglang-router 0.3.2's `cache_aware`, written anew.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from weakref import WeakKeyDictionary

from router.load_balancing.policy import Policy
from router.load_balancing.prefix import PromptPrefix
from router.load_balancing.prefix_tree import PrefixTree
from router.workers.worker import Worker


@dataclass(frozen=True)
class CacheAwareSettings:
    """The policy's parameters; raises `ValueError` with one sentence on a wrong one.

    Attributes:
        cache_threshold: Share of the prompt, 0 to 1, above which a worker that has it is preferred.
        balance_abs_threshold: Requests that the most loaded worker may have more than the least loaded.
        balance_rel_threshold: Times the least load, at least 1. Both must be exceeded to balance.
        eviction_interval_secs: Seconds after which an absent worker is forgotten.
        max_tree_size: Most characters remembered of one worker; see `PrefixTree.size`.
    """

    cache_threshold: float = 0.3
    balance_abs_threshold: int = 64
    balance_rel_threshold: float = 1.5
    eviction_interval_secs: float = 60.0
    max_tree_size: int = 2**26

    def __post_init__(self) -> None:
        if not 0 <= self.cache_threshold <= 1:
            raise ValueError(f"--cache-threshold {self.cache_threshold:g} is no share; give a number from 0 to 1.")
        if self.balance_abs_threshold < 0:
            raise ValueError(
                f"--balance-abs-threshold {self.balance_abs_threshold} is no count of requests; give 0 or more."
            )
        if not 1 <= self.balance_rel_threshold < math.inf:
            raise ValueError(
                f"--balance-rel-threshold {self.balance_rel_threshold:g} would call even loads uneven, or none; "
                "give a number from 1 on."
            )
        if not 0 < self.eviction_interval_secs < math.inf:
            raise ValueError(
                f"--eviction-interval-secs {self.eviction_interval_secs:g} is no time; give seconds above 0."
            )
        if self.max_tree_size < 1:
            raise ValueError(f"--max-tree-size {self.max_tree_size} leaves no room for a prompt; give at least 1.")

    def uneven(self, load: int, least: int) -> bool:
        """Whether a load is too far above the least of its group."""
        return load - least > self.balance_abs_threshold and load > self.balance_rel_threshold * least


@dataclass(slots=True)
class _Memory:
    """What is known of a worker.

    Attributes:
        model: The model it served then; a server that comes back with another has another cache.
        tree: The prompts it got.
        turn: When it was last chosen, counted in choices; 0 for never.
        seen: When it was last a candidate, on the policy's clock.
    """

    model: str | None
    tree: PrefixTree
    turn: int
    seen: float


class CacheAware(Policy):
    """The worker with the longest known begin of the prompt.

    1. Loads are uneven, `max - min` above the absolute threshold and `max` above the relative one
       times `min`: the least loaded worker.
    2. A worker holds more than `cache_threshold` of the prompt: the one that holds most of it.
    3. Otherwise the least loaded worker.

    Ties go to the less loaded, then the smaller tree - the most free cache -, then the worker whose last
    turn is longest ago. So idle workers share new prompts and their memory evenly, where a rule on load
    alone would fill one cache again and again (sgl-project/sglang issue 32983), and one on the trees alone
    would overload a busy worker (pull request 14305). Without a prompt only load and turn count.
    """

    def __init__(
        self, settings: CacheAwareSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or CacheAwareSettings()
        self._clock = clock
        self._memories: WeakKeyDictionary[Worker, _Memory] = WeakKeyDictionary()
        self._turns = count(1)
        self._next_sweep = clock() + self._settings.eviction_interval_secs

    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """By the rule above; the chosen worker is taken to hold the prompt from now on."""
        now = self._clock()
        known = [(worker, self._remember(worker, now)) for worker in workers]
        if now >= self._next_sweep:
            self._sweep(now)
        chosen, memory = self._best(known, prefix)
        memory.turn = next(self._turns)
        if prefix is not None:
            memory.tree.insert(prefix)
        return chosen

    def _best(self, known: list[tuple[Worker, _Memory]], prefix: PromptPrefix | None) -> tuple[Worker, _Memory]:
        if len(known) == 1:
            return known[0]
        if prefix is None:
            return min(known, key=lambda one: (one[0].load, one[1].turn))
        least = min(known, key=_burden)
        if self._settings.uneven(max(worker.load for worker, _ in known), min(worker.load for worker, _ in known)):
            return least
        matches = [memory.tree.match(prefix) for _, memory in known]
        longest = max(matches)
        if longest <= self._settings.cache_threshold * len(prefix.chars):
            return least
        return min((one for one, match in zip(known, matches, strict=True) if match == longest), key=_burden)

    def _remember(self, worker: Worker, now: float) -> _Memory:
        memory = self._memories.get(worker)
        if memory is None or memory.model != worker.model:
            memory = _Memory(worker.model, PrefixTree(self._settings.max_tree_size), 0, now)
            self._memories[worker] = memory
        memory.seen = now
        return memory

    def _sweep(self, now: float) -> None:
        """Forget who has been no candidate for an interval; its cache is likely gone with it."""
        interval = self._settings.eviction_interval_secs
        self._next_sweep = now + interval
        for worker, memory in list(self._memories.items()):
            if now - memory.seen >= interval:
                del self._memories[worker]


def _burden(one: tuple[Worker, _Memory]) -> tuple[int, int, int]:
    worker, memory = one
    return worker.load, memory.tree.size, memory.turn
