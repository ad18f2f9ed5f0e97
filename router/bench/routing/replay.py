"""Replays a trace on modelled servers by a policy, in virtual time."""

import heapq
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.bench.routing.figures import Figures
from router.bench.routing.servers import CACHE_TOKENS, RadixCache, ServedRequest, Server
from router.bench.routing.traces import PAGE, TracedRequest
from router.load_balancing import (
    POLICIES,
    Bucket,
    CacheAware,
    CacheAwareSettings,
    Manual,
    Policy,
    PredictedLatency,
    PromptPrefix,
    RequestWatch,
    RoutingContext,
)
from router.workers.kv_blocks import KvBlocks
from router.workers.worker import Worker


class Clock:
    """The time in a replay, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@dataclass(frozen=True)
class Replayed(Figures):
    """What came of one trace under one policy.

    Attributes:
        balance: How long the busiest server worked, as a multiple of the average; 1 is even.
    """

    balance: float


def replay(
    name: str,
    trace: Sequence[TracedRequest],
    slowness: Sequence[float],
    *,
    kv_events: bool = False,
    balance_abs_threshold: int = CacheAwareSettings.balance_abs_threshold,
    seed: int = 1,
) -> Replayed:
    """Send a trace through a policy.

    Args:
        name: The policy.
        trace: The requests.
        slowness: Of each server, by which its times are multiplied.
        kv_events: Whether the servers tell which pages they hold.
        balance_abs_threshold: Of `cache_aware`.
        seed: The same gives the same figures.
    """
    random.seed(seed)
    clock = Clock()
    policy = make(name, clock, CacheAwareSettings(balance_abs_threshold=balance_abs_threshold))
    return _Replay(policy, clock, trace, slowness, kv_events=kv_events).run()


class _Replay:
    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        trace: Sequence[TracedRequest],
        slowness: Sequence[float],
        *,
        kv_events: bool,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._trace = trace
        self._workers = [
            Worker(f"http://127.0.0.1:{port}", "plain", models=("m",), healthy=True)
            for port in range(1, len(slowness) + 1)
        ]
        if kv_events:
            for worker in self._workers:
                worker.kv_blocks = KvBlocks(PAGE, clock=self._clock)
                worker.kv_blocks.clear()  # an empty cache
        self._servers = {
            worker: Server(factor, RadixCache(CACHE_TOKENS, worker.kv_blocks))
            for worker, factor in zip(self._workers, slowness, strict=True)
        }
        self._arrivals = [(each.delay, number) for number, each in enumerate(trace) if not each.after]
        heapq.heapify(self._arrivals)
        self._missing = {number: len(each.after) for number, each in enumerate(trace)}
        self._readers: defaultdict[int, list[int]] = defaultdict(list)
        for number, each in enumerate(trace):
            for upstream in each.after:
                self._readers[upstream].append(number)
        self._ttfts: list[float] = []
        self._latencies: list[float] = []
        self._cached = 0
        self._watches: dict[int, RequestWatch] = {}

    def run(self) -> Replayed:
        """Replay all; events of the same time in a fixed order."""
        while True:
            worker = min(self._workers, key=lambda each: self._servers[each].step_ends)
            step_ends = self._servers[worker].step_ends
            if self._arrivals and self._arrivals[0][0] <= step_ends:
                self._clock.now, number = heapq.heappop(self._arrivals)
                self._route(number)
            elif step_ends < float("inf"):
                self._clock.now = step_ends
                self._end_step(worker)
            else:
                break
        busy = [server.busy_secs for server in self._servers.values()]
        tokens = sum(len(request.prompt) for request in self._trace)
        balance = max(busy) / statistics.fmean(busy)
        return Replayed.of(self._ttfts, self._latencies, self._cached / tokens, balance=balance)

    def _route(self, number: int) -> None:
        request = self._trace[number]
        context = RoutingContext(PromptPrefix(request.prompt, "tokens"), routing_key=request.key, model="m")
        worker = self._policy.choose(self._workers, context)
        self._watches[number] = self._policy.sent(worker, streams=True)
        worker.load.begin("m")
        self._servers[worker].add(ServedRequest(number, request, self._clock.now), self._clock.now)

    def _end_step(self, worker: Worker) -> None:
        now = self._clock.now
        first, ended = self._servers[worker].end_step()
        for served in first:
            self._ttfts.append(now - served.arrived)
            self._cached += served.cached
            self._watches[served.number].first_token()
        for served in ended:
            worker.load.end()
            self._watches.pop(served.number).ended(len(served.request.answer))
            self._latencies.append(now - served.arrived)
            for reader in self._readers[served.number]:
                self._missing[reader] -= 1
                if not self._missing[reader]:
                    heapq.heappush(self._arrivals, (now + self._trace[reader].delay, reader))


def make(name: str, clock: Callable[[], float], cache_aware: CacheAwareSettings) -> Policy:
    """A policy that lives in the replay's time."""
    match name:
        case "bucket":
            return Bucket(clock=clock)
        case "cache_aware":
            return CacheAware(cache_aware, clock=clock)
        case "manual":
            return Manual(clock=clock)
        case "predicted_latency":
            return PredictedLatency(clock=clock)
    return POLICIES[name]()
