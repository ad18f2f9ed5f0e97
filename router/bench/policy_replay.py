"""Replays made traces on modelled servers, by every policy: what of the prompts is cached, and how long prefills wait.

A server prefills one prompt after the other at a rate, from where its cache ends; answers take their time beside. Its
cache is a prefix tree of bounded size. That is simpler than a real server, so the figures compare policies and nothing
else.
"""

import heapq
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from router.bench.policy_traces import TRACES, TracedRequest
from router.load_balancing import POLICIES, Bucket, CacheAware, Manual, Policy
from router.load_balancing.prefix_tree import PrefixTree
from router.workers.worker import Worker

PREFILL_RATE = 40_000.0  # characters a second: 10,000 tokens
CACHE_SIZE = 400_000  # characters in one server's cache
REQUESTS_A_SECOND = 5.0  # for each server


@dataclass(frozen=True)
class Replayed:
    """What came of one trace under one policy.

    Attributes:
        cached: Share of the prompts' characters that were in the cache.
        first_token_secs: Seconds until the prompt of each request was prefilled.
        busiest: The most requests that one server got, as a multiple of the average.
    """

    cached: float
    first_token_secs: list[float]
    busiest: float


class _Clock:
    """The time in a replay."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def replay(name: str, trace: str, requests: int, workers: int, seed: int = 1) -> Replayed:
    """Send a trace through a policy; the same seed gives the same figures."""
    random.seed(seed)
    clock = _Clock()
    policy, group = _policy(name, clock), _servers(workers)
    caches = {worker: PrefixTree(CACHE_SIZE) for worker in group}
    free_at, count = dict.fromkeys(group, 0.0), dict.fromkeys(group, 0)
    ends: list[tuple[float, int, Worker]] = []  # of requests in flight
    waits, cached, total = [], 0, 0
    rng = random.Random(seed)
    for number, request in enumerate(TRACES[trace](requests, REQUESTS_A_SECOND * workers, rng)):
        clock.now = request.at
        while ends and ends[0][0] <= request.at:
            heapq.heappop(ends)[2].load -= 1
        worker = policy.choose(group, request.context)
        hit, length = _prefill(caches[worker], request)
        prefilled_at = max(request.at, free_at[worker]) + (length - hit) / PREFILL_RATE
        free_at[worker] = prefilled_at
        waits.append(prefilled_at - request.at)
        worker.load += 1
        count[worker] += 1
        heapq.heappush(ends, (prefilled_at + request.answer_secs, number, worker))
        cached, total = cached + hit, total + length
    return Replayed(cached / total, waits, max(count.values()) * workers / requests)


def table(requests: int, workers: int) -> Iterator[str]:
    """The lines of a table of all policies and traces."""
    yield f"{requests} requests a trace, {workers} servers; seconds to the first token, without the answer's own"
    yield f"{'trace':<16}{'policy':<22}{'cached':>8}{'median':>9}{'p99':>9}{'busiest':>9}"
    for trace in TRACES:
        for name in sorted(POLICIES):
            done = replay(name, trace, requests, workers)
            *_, p99 = statistics.quantiles(done.first_token_secs, n=100)
            median = statistics.median(done.first_token_secs)
            yield f"{trace:<16}{name:<22}{done.cached:>8.1%}{median:>9.3f}{p99:>9.3f}{done.busiest:>8.2f}x"


def _policy(name: str, clock: _Clock) -> Policy:
    """A policy that lives in the replay's time."""
    match name:
        case "bucket":
            return Bucket(clock=clock)
        case "cache_aware":
            return CacheAware(clock=clock)
        case "manual":
            return Manual(clock=clock)
    return POLICIES[name]()


def _servers(count: int) -> list[Worker]:
    return [Worker(f"http://127.0.0.1:{port}", "plain", None, "m", healthy=True) for port in range(1, count + 1)]


def _prefill(cache: PrefixTree, request: TracedRequest) -> tuple[int, int]:
    """The characters of a prompt that were cached, and all; afterwards all are."""
    prompt = request.context.prompt
    assert prompt is not None
    hit = cache.match(prompt)
    cache.insert(prompt)
    return hit, len(prompt.chars)
