"""What happens before a router's metrics are read again: each scenario moves some of them."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

from prometheus_client.parser import text_string_to_metric_families

from router.dispatch.retries import RetrySettings
from router.server.admission import AdmissionSettings
from router.server.components import builder
from router.server.event_loop import EventLoopWatch
from router.server.settings import ServerSettings
from router.worker_selection.overload import OverloadSettings
from router.worker_selection.pair_places import PairPlaceSettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from tests.router.server.test_slow_clients import REQUEST, end_time
from tests.router.service_discovery.cluster import DECODE, PAIRS, FakeCluster, discovering, discovery, pod
from tests.router.service_discovery.test_discovery import has
from tests.router.support.aio import until
from tests.router.support.fakes import Call, FakePair, Handler, whole
from tests.router.support.plain import PlainServer
from tests.router.support.raw import connected
from tests.router.support.serving import Serving, serving
from tests.router.worker_selection.test_overload import Reporting
from tests.router.worker_selection.test_pair_places import held, start, statuses, windowed

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "a word that all have in common"}]}
PATH = "/v1/chat/completions"
FAST = RetrySettings(initial_backoff_ms=1, max_backoff_ms=5)


def samples_of(text: str) -> Samples:
    """Each sample of a text of metrics."""
    families = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


@dataclass
class Moves:
    """The metrics before and after what a scenario did."""

    router: Serving
    before: Samples
    after: Samples

    async def read(self) -> None:
        """Read them, while or after something happens."""
        self.after = self.after | samples_of((await self.router.http.get("/metrics")).text)

    def labels_of(self, name: str) -> list[set[str]]:
        """The names of the labels of each sample of a metric that has moved."""
        names = {name, f"{name}_count"}
        moved = [key for key, value in self.after.items() if key[0] in names and value != self.before.get(key, 0)]
        return [{label for label, _ in labels} for _, labels in moved]


@asynccontextmanager
async def watching(router: Serving) -> AsyncIterator[Moves]:
    """Read the metrics before the block and, when all its requests are over, after it."""
    moves = Moves(router, samples_of((await router.http.get("/metrics")).text), {})
    yield moves
    await until(lambda: not router.requests, "all answers are over")
    await moves.read()


@asynccontextmanager
async def before_plain(*servers: PlainServer, **settings: Any) -> AsyncIterator[Serving]:
    """A router before plain servers of the model `m`."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        yield await stack.enter_async_context(serving(plain=tuple(each.url for each in servers), **settings))


async def requests() -> Moves:
    """Requests on pairs: whole, streamed, retried, refused."""
    pair, other = FakePair(), FakePair()
    other.rooms = pair.rooms
    async with serving(pair, other, retries=FAST) as router, watching(router) as moves:
        await router.post(PATH, CHAT)
        for fake in (pair, other):
            fake.decode.generate = once(fake.decode.generate, failing)
        for stream in (False, True):
            assert (await router.post(PATH, {**CHAT, "stream": stream})).status_code == 200
        assert (await router.post(PATH, {**CHAT, "model": "none"})).status_code == 404
        await router.registry.probe()
    return moves


async def waiting() -> Moves:
    """Requests that run, wait, and are refused."""
    pair = FakePair()
    pair.decode.generate = hangs
    limits = AdmissionSettings(max_concurrent=1, queue_size=1)
    async with serving(pair, limits=limits) as router, connected(router.port) as first:
        async with connected(router.port) as second, watching(router) as moves:
            await first.send(REQUEST)
            await until(lambda: len(pair.decode.requests) == 1, "one runs")
            await second.send(REQUEST)
            await until(lambda: router.limits.gate is not None and router.limits.gate.waiting == 1, "one waits")
            assert (await router.post(PATH, CHAT)).status_code == 429
            await moves.read()
            during = dict(moves.after)
            first.writer.close()
            second.writer.close()
        await router.settled()
        moves.after = during  # while they ran
    return moves


async def broken() -> Moves:
    """A worker whose breaker opens, is tried, and closes when the server was restarted."""
    pair = FakePair()
    pair.decode.info["random_seed"] = 1
    pair.decode.generate = once(pair.decode.generate, failing)
    breaker = CircuitBreakerSettings(failure_threshold=1, timeout_secs=0.001)
    async with serving(pair, breaker=breaker) as router:
        decode = router.registry.workers[1]
        async with watching(router) as moves:
            assert (await router.post(PATH, CHAT)).status_code == 500
            await moves.read()
            failed = dict(moves.after)
            await until(decode.breaker.allows, "it is half-open")
            assert (await router.post(PATH, CHAT)).status_code == 200
            await until(lambda: decode.breaker.consecutive_successes == 1, "that is counted")
            await moves.read()
            tried = dict(moves.after)
            pair.decode.info["random_seed"] = 2
            await router.registry.probe()
        # What was 1 for a while and is 0 again.
        moves.after = {key: max(value, failed.get(key, 0), tried.get(key, 0)) for key, value in moves.after.items()}
    return moves


async def joined() -> Moves:
    """A worker that joins, and one that is not well."""
    pair = FakePair()
    async with PlainServer() as server, serving(pair) as router, watching(router) as moves:
        assert (await router.post("/workers", {"url": server.url})).status_code == 202
        await until(lambda: "m" in router.registry.models(), "it serves")
        await pair.decode.server.__aexit__()
        await router.registry.probe()
        await until(lambda: not router.registry.workers[1].health.usable, "decode is gone")
    return moves


def with_policy(policy: str) -> Callable[[], Awaitable[Moves]]:
    """Sessions under a policy that keeps them together."""

    async def sessions() -> Moves:
        async with before_plain(chatty(), chatty(), policy=policy) as router, watching(router) as moves:
            for key in ("one", "two"):
                assert (await router.post(PATH, {**CHAT, "model": "m", "session_id": key})).status_code == 200
        return moves

    return sessions


async def reporting() -> Moves:
    """Servers that tell their load."""
    disaggregation = {
        "prefill_bootstrap_queue_reqs": 1,
        "prefill_inflight_queue_reqs": 1,
        "decode_prealloc_queue_reqs": 1,
        "decode_transfer_queue_reqs": 1,
        "kv_transfer_speed_gb_s": 1.0,
        "kv_transfer_latency_ms": 1.0,
    }
    rank = {
        "num_running_reqs": 1,
        "num_waiting_reqs": 1,
        "token_usage": 0.5,
        "gen_throughput": 2.0,
        "cache_hit_rate": 0.5,
    }
    server = PlainServer()

    async def loads(call: Call) -> None:
        busy = {name: value * (1 if len(server.asked) > 1 else 0) for name, value in rank.items()}
        pair = {name: value * (1 if len(server.asked) > 1 else 0) for name, value in disaggregation.items()}
        await call.answer({"loads": [{**busy, "dp_rank": 1, "disaggregation": {**pair, "mode": "prefill"}}]})

    server.answer = loads
    async with before_plain(server, policy="power_of_two") as router, watching(router) as moves:
        monitor = router.load_monitor
        await until(lambda: len(server.asked) == 1, "it was asked once")
        await monitor.poll()
    return moves


async def stale_connection() -> Moves:
    """A server that closes a kept connection just when the next request comes."""
    server = chatty()
    usual = server.handler

    async def drops(call: Call) -> None:
        server.handler = usual
        call.drop()

    async with before_plain(server) as router, watching(router) as moves:
        assert (await router.post(PATH, {**CHAT, "model": "m"})).status_code == 200
        server.handler = drops
        assert (await router.post(PATH, {**CHAT, "model": "m"})).status_code == 200
    return moves


async def slow_client() -> Moves:
    """A client that never ends its request."""
    patient = ServerSettings(client_timeout_secs=600)
    async with (
        serving(FakePair(), server=patient) as router,
        watching(router) as moves,
        connected(router.port) as client,
    ):
        await client.send(REQUEST[:20])
        await until(lambda: any(each._receiving != "nothing" for each in router.connections), "it has begun")
        end_time(router)
        assert b" 408 " in await client.rest()
    return moves


async def held_up() -> Moves:
    """An event loop that is held up."""
    with mock.patch.object(builder, "EventLoopWatch", partial(EventLoopWatch, interval=0.001)):
        async with serving(FakePair()) as router, watching(router) as moves:
            watch = router.components.event_loop
            stalls = watch._stalls
            while watch._stalls == stalls:
                end = time.monotonic() + 0.01
                while time.monotonic() < end:
                    pass
                await router.http.get("/liveness")
    return moves


async def pods() -> Moves:
    """Pods that come and go, and an API that fails."""
    async with FakeCluster() as cluster, discovering(cluster, discovery(*PAIRS)) as router:
        await until(lambda: cluster.watched == 1, "it watches")
        async with watching(router) as moves:
            cluster.put(pod("a", "127.0.0.2", labels=DECODE), pod("b", "127.0.0.3", labels=DECODE))
            await has(router, "127.0.0.2", "127.0.0.3")
            cluster.delete("a")
            await has(router, "127.0.0.3")
            cluster.refusal = (403, "no right")
            cluster.drop()
            watcher = router.components.workers.watcher
            await until(lambda: "no right" in str(watcher and watcher.problem), "it is refused")
            cluster.refusal = None
            await until(lambda: watcher is not None and watcher.problem is None, "pods are listed anew")
    return moves


async def without_places() -> Moves:
    """A decode server that has one place of two left: one request waits for it, and one more is too many."""
    pair = windowed(FakePair(), 2)
    release = held(pair)
    async with serving(pair, places=PairPlaceSettings(decode_wait_secs=30.0, queue_size=1)) as router:
        async with watching(router) as moves:
            windowed(pair, 1)
            await router.registry.probe()
            asked = start(router, 2)
            await until(lambda: router.dispatcher.selector.places.waiting == 1, "one waits")
            asked += start(router, 1)
            assert await statuses(asked[2:]) == [503]
            release.set()
            assert await statuses(asked[:2]) == [200, 200]
        return moves


async def busy_prefill() -> Moves:
    """A prefill server that may have one request."""
    pair = FakePair()
    releases = [held(pair, role) for role in ("prefill", "decode")]
    async with serving(pair, places=PairPlaceSettings(prefills=1, queue_size=0)) as router:
        async with watching(router) as moves:
            first = start(router, 1)
            await until(lambda: bool(pair.prefill.requests), "it has one")
            assert await statuses(start(router, 1)) == [503]
            for release in releases:
                release.set()
            assert await statuses(first) == [200]
        return moves


def overloaded(*, shed: bool) -> Callable[[], Awaitable[Moves]]:
    """A request where all servers report too much work."""

    async def happens() -> Moves:
        server, overload = Reporting(7), OverloadSettings(waiting_requests=5, shed=shed)
        async with before_plain(server, overload=overload) as router:
            (worker,) = router.registry.workers
            await until(lambda: worker.server_load is not None, "it has reported")
            async with watching(router) as moves:
                assert (await router.post("/generate", {"text": "x"})).status_code == (503 if shed else 200)
            return moves

    happens.__name__ = f"overloaded, {'shed' if shed else 'not shed'}"
    return happens


def chatty() -> PlainServer:
    """A plain server of the model `m` that answers chats."""
    server = PlainServer()
    server.answer = well
    return server


async def well(call: Call) -> None:
    """Answer a chat."""
    await call.answer({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]})


async def hangs(call: Call) -> None:
    """Never answer."""
    await call.gone()


async def failing(call: Call) -> None:
    """Answer with 500."""
    await call.send(whole(b"{}", 500))


def once(usual: Handler, first: Handler) -> Handler:
    """Answer the first request as `first` does, and the others as usual."""
    asked = 0

    async def answer(call: Call) -> None:
        nonlocal asked
        asked += 1
        await (first if asked == 1 else usual)(call)

    return answer


def named(*names: str) -> frozenset[str]:
    """The names, given as words."""
    return frozenset(f"smg_{name}" for words in names for name in words.split())


OF_POLICY = {
    "manual": named("manual_policy_branch_total manual_policy_cache_entries worker_routing_keys_active"),
    "prefix_hash": named("prefix_hash_policy_branch_total"),
    "consistent_hashing": named("consistent_hashing_policy_branch_total"),
}

# Which metrics each scenario moves.
SCENARIOS: dict[Callable[[], Awaitable[Moves]], Iterable[str]] = {
    requests: named(
        "http_requests_total http_responses_total http_request_duration_seconds router_requests_total",
        "router_request_duration_seconds router_request_errors_total router_ttft_seconds",
        "router_upstream_responses_total pd_prefill_duration_seconds pd_ttft_seconds worker_selection_total",
        "worker_requests_total worker_retries_total worker_retry_backoff_seconds worker_errors_total",
        "worker_cb_outcomes_total worker_health_checks_total cache_aware_policy_branch_total cache_aware_match_ratio",
        "cache_tree_chars cache_tree_tenants",
    ),
    waiting: named(
        "http_connections_active http_inflight_request_age_count http_rate_limit_total admission_inflight",
        "admission_queue_depth admission_queue_rejected_total worker_requests_active tokio_alive_tasks",
    ),
    broken: named(
        "worker_cb_state worker_cb_transitions_total worker_cb_consecutive_failures worker_retries_exhausted_total",
        "worker_cb_consecutive_successes worker_cb_health_readmissions_total",
    ),
    joined: named("worker_pool_size worker_health"),
    **{with_policy(policy): names for policy, names in OF_POLICY.items()},
    reporting: named(
        "engine_load_polls_total engine_running_requests engine_waiting_requests engine_token_usage",
        "engine_gen_throughput engine_cache_hit_rate engine_pd_kv_transfer_latency_ms engine_pd_kv_transfer_speed_gb_s",
        "engine_pd_prefill_queue_reqs engine_pd_decode_queue_reqs",
    ),
    without_places: named("pd_admission_window pd_admission_waits_total pd_admission_sheds_total"),
    busy_prefill: named("pd_prefill_admission_rejections_total"),
    overloaded(shed=False): named("worker_overload_fallback_total"),
    overloaded(shed=True): named("worker_overload_shed_total"),
    stale_connection: named("router_upstream_send_retries_total"),
    slow_client: named("http_connection_timeouts_total"),
    held_up: named("tokio_event_loop_delay_seconds tokio_event_loop_stalls_total"),
    pods: named(
        "discovery_registrations_total discovery_deregistrations_total discovery_sync_duration_seconds",
        "discovery_workers_discovered discovery_snapshot_errors_total",
    ),
}
