"""The policy `cache_aware`: the worker whose KV cache likely holds the longest prefix of the prompt.

Rule and parameters are those of sglang-router 0.3.2's `cache_aware`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar
from weakref import WeakKeyDictionary

from router.load_balancing.cached_prompt import CachedPrompt, prompt_sent
from router.load_balancing.match_ratios import MatchRatios
from router.load_balancing.policy import InProcesses, PromptPolicy
from router.load_balancing.prefix_tree import PrefixTree
from router.load_balancing.prompt_prefix import PromptPrefix
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.workers.worker import UNKNOWN_MODEL, Worker


@dataclass(frozen=True)
class CacheAwareSettings:
    """Parameters of the policy; raises `ValueError` with one sentence on an invalid one.

    Loads are imbalanced if both balance thresholds are exceeded.

    Attributes:
        cache_threshold: A worker is preferred if its cache holds more than this share of the prompt, 0 to 1: of its
            characters, or of its token ids.
        balance_abs_threshold: Largest difference between the highest and the lowest load, in requests.
        balance_rel_threshold: Largest ratio of the highest to the lowest load, at least 1.
        eviction_interval_secs: Seconds after which the prompts of a worker that is no candidate are forgotten.
        max_tree_size: Largest `PrefixTree.size` of one worker, in characters; it holds after every request.
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

    def imbalanced(self, load: int, min_load: int) -> bool:
        """Whether a load is too far above the lowest load of its group."""
        return load - min_load > self.balance_abs_threshold and load > self.balance_rel_threshold * min_load


@dataclass(slots=True)
class _WorkerState:
    """What the policy knows about one worker.

    Attributes:
        model: The model it served; a worker that restarts with another model has an empty cache.
        tree: The prompts sent to it.
        last_chosen: Number of the choice that last chose it; 0 for never.
        last_candidate_at: When it was last a candidate, in seconds of the policy's clock.
    """

    model: str | None
    tree: PrefixTree
    last_chosen: int
    last_candidate_at: float


class CacheAware(PromptPolicy):
    """Chooses by cached prefix and load.

    Each worker has a prefix tree of the prompts sent to it, an estimate of its KV cache; where its KV events are
    followed, they tell better (`CachedPrompt`), and "tree" below is what they tell. The first rule that applies:

    1. The loads are imbalanced (`CacheAwareSettings.imbalanced`): the least loaded worker.
    2. Some tree holds more than `cache_threshold` of the prompt: the worker whose tree holds most of it.
    3. The least loaded worker.

    Ties go to the lower load, then to the smaller tree, then to the worker chosen longest ago. So idle workers share
    new prompts evenly: by load alone one cache would be filled again and again (sgl-project/sglang issue 32983), by
    tree size alone a busy worker would be overloaded (pull request 14305). Without a prompt the tree plays no part.

    Attributes:
        match_ratios: The longest share of each prompt that some tree held, where there was a choice.
    """

    branch_metric: ClassVar[str] = "smg_cache_aware_policy_branch"
    uses_kv_events: ClassVar[bool] = True
    in_processes: ClassVar[InProcesses] = "told"

    def __init__(
        self, settings: CacheAwareSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._settings = settings or CacheAwareSettings()
        self._clock = clock
        self.match_ratios = MatchRatios()
        self._states: WeakKeyDictionary[Worker, _WorkerState] = WeakKeyDictionary()
        self._choices = count(1)
        self._next_eviction = clock() + self._settings.eviction_interval_secs

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose by the rules above, and add the prompt to the tree of the chosen worker."""
        prefix, now = context.prompt, self._clock()
        candidates = [(worker, self._state_of(worker, now)) for worker in workers]
        if now >= self._next_eviction:
            self._evict_absent(now)
        chosen, state = self._select(candidates, prefix)
        state.last_chosen = next(self._choices)
        if prefix is not None:
            prompt_sent(chosen, state.tree, prefix)
            if self.announce is not None:
                self.announce(chosen, prefix)
        return chosen

    def placed_elsewhere(self, worker: Worker, prompt: PromptPrefix) -> None:
        """Add the prompt to the worker's tree, as if this process had chosen."""
        state = self._state_of(worker, self._clock())
        state.last_chosen = next(self._choices)
        state.tree.insert(prompt)

    def _select(
        self, candidates: list[tuple[Worker, _WorkerState]], prefix: PromptPrefix | None
    ) -> tuple[Worker, _WorkerState]:
        if len(candidates) == 1:
            return candidates[0]
        if prefix is None:
            self.branches["expected_wait_fallback"] += 1
            return min(candidates, key=lambda candidate: (candidate[0].load.in_flight, candidate[1].last_chosen))
        least_loaded = min(candidates, key=_load_key)
        cached = CachedPrompt(prefix)
        matches = [cached.on(worker, state.tree) for worker, state in candidates]
        longest = max(matches)
        self.match_ratios.observe(longest / max(1, len(prefix.chars)))
        if longest <= self._settings.cache_threshold * len(prefix.chars):
            self.branches["expected_wait_fallback"] += 1
            return least_loaded
        holders = [candidate for candidate, match in zip(candidates, matches, strict=True) if match == longest]
        loads = [worker.load.in_flight for worker, _ in candidates]
        imbalanced = self._settings.imbalanced(max(loads), min(loads))
        chosen = least_loaded if imbalanced else min(holders, key=_load_key)
        self.branches["tree_match" if chosen in holders else "spill"] += 1
        return chosen

    def trees(self) -> dict[str, tuple[int, int]]:
        """By model: the workers that have a tree, and the size of all trees."""
        found: dict[str, tuple[int, int]] = {}
        for state in [*self._states.values()]:
            workers, size = found.get(state.model or UNKNOWN_MODEL, (0, 0))
            found[state.model or UNKNOWN_MODEL] = workers + 1, size + state.tree.size
        return found

    def _state_of(self, worker: Worker, now: float) -> _WorkerState:
        """The worker's state, created if it is new, and marked as seen at `now`."""
        state = self._states.get(worker)
        if state is None or state.model != worker.model:
            state = _WorkerState(worker.model, PrefixTree(self._settings.max_tree_size), 0, now)
            self._states[worker] = state
        state.last_candidate_at = now
        return state

    def _evict_absent(self, now: float) -> None:
        """Forget workers that were no candidate for an interval; their caches are likely gone."""
        interval = self._settings.eviction_interval_secs
        self._next_eviction = now + interval
        for worker, state in list(self._states.items()):
            if now - state.last_candidate_at >= interval:
                del self._states[worker]


def _load_key(candidate: tuple[Worker, _WorkerState]) -> tuple[int, int, int]:
    """Sort key: load, tree size, last choice."""
    worker, state = candidate
    return worker.load.in_flight, state.tree.size, state.last_chosen
