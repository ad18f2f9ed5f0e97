"""The policy `bucket`: each worker gets prompts of similar length, and all get about as many characters."""

import time
from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import accumulate

from router.load_balancing.cache_aware import CacheAwareSettings
from router.load_balancing.policy import Policy
from router.load_balancing.prompt_prefix import TOKEN_CHARACTERS
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.load_balancing.settings import PolicySettings
from router.workers.worker import Worker

FIRST_LENGTHS = 4096  # characters that are shared out while no prompt has been seen
MAX_PROMPTS = 4096  # that are remembered of one model
MAX_MODELS = 256  # whose prompts are remembered


class Bucket(Policy):
    """Chooses by the length of the prompt, so that short prompts do not wait behind long ones.

    Where an answer is made, on decode and plain servers, the tokens that the client expects of it count, too.

    The prompts of the last interval tell the bounds between the workers' lengths: each worker's share of their
    characters is about the same. When the characters that the workers got in that time are imbalanced
    (`CacheAwareSettings.imbalanced`, here in characters), the one that got fewest is chosen. The workers are taken in
    the order of their addresses, which is the same in all processes.
    """

    def __init__(
        self,
        settings: PolicySettings | None = None,
        balance: CacheAwareSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = (settings or PolicySettings()).bucket_adjust_interval_secs
        self._balance = balance or CacheAwareSettings()
        self._clock = clock
        self._models: OrderedDict[str, _Lengths] = OrderedDict()

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose by length, unless the workers' shares are imbalanced."""
        prompt = context.prompt
        length = 0 if prompt is None else len(prompt.chars) * prompt.unit
        if context.expected_tokens and workers[0].role != "prefill":
            length += context.expected_tokens * TOKEN_CHARACTERS
        now = self._clock()
        lengths = self._lengths(context.model or workers[0].model or "", now)
        ordered = sorted(workers, key=lambda worker: worker.url)
        sent = [lengths.sent_to[worker.url] for worker in ordered]
        if self._balance.imbalanced(max(sent), min(sent)):
            chosen = ordered[sent.index(min(sent))]
        else:
            chosen = ordered[bisect_left(lengths.bounds(len(ordered)), length)]
        lengths.add(now, length, chosen.url)
        return chosen

    def _lengths(self, model: str, now: float) -> "_Lengths":
        """The prompts of a model in the interval before `now`."""
        lengths = self._models.get(model)
        if lengths is None:
            lengths = self._models[model] = _Lengths(self._interval, now)
        self._models.move_to_end(model)
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        lengths.expire(now)
        return lengths


class _Lengths:
    """The lengths of a model's latest prompts, and the bounds that follow from them.

    Attributes:
        sent_to: Characters of these prompts by the address of the worker that got them.
    """

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._adjust_at = now + interval
        self._prompts: deque[tuple[float, int, str]] = deque()
        self._sorted: Sequence[int] = ()  # the lengths at the last adjustment
        self._bounds: dict[int, list[int]] = {}
        self.sent_to: Counter[str] = Counter()

    def add(self, now: float, length: int, url: str) -> None:
        """Remember a prompt."""
        self._prompts.append((now, length, url))
        self.sent_to[url] += length
        if len(self._prompts) > MAX_PROMPTS:
            self._drop_oldest()

    def expire(self, now: float) -> None:
        """Adjust the bounds when that is due, then forget what is older than an interval."""
        if now >= self._adjust_at:
            self._adjust_at = now + self._interval
            if self._prompts:  # else the last bounds are the best guess
                self._bounds = {}
                self._sorted = sorted(length for _, length, _ in self._prompts)
        while self._prompts and now - self._prompts[0][0] > self._interval:
            self._drop_oldest()

    def bounds(self, count: int) -> list[int]:
        """The greatest length of each of `count` workers but the last, which takes all longer ones."""
        if (bounds := self._bounds.get(count)) is None:
            bounds = self._bounds[count] = self._even_shares(count)
        return bounds

    def _even_shares(self, count: int) -> list[int]:
        if not self._sorted:
            return [FIRST_LENGTHS * i // count - 1 for i in range(1, count)]
        sums = list(accumulate(self._sorted))
        return [self._sorted[bisect_left(sums, sums[-1] * i / count)] for i in range(1, count)]

    def _drop_oldest(self) -> None:
        _, length, url = self._prompts.popleft()
        self.sent_to[url] -= length
        if self.sent_to[url] <= 0:
            del self.sent_to[url]
