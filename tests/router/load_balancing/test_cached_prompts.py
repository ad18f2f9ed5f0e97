"""Policies go by the servers' KV events where they have them, and else by their guess."""

from typing import Any

import pytest

from router.load_balancing import CacheAware, Policy, PredictedLatency, PromptPrefix, RoutingContext, token_prefix
from router.workers.kv_blocks import KvBlocks
from router.workers.kv_event_monitor import KvEventSettings
from tests.router.load_balancing.groups import workers
from tests.router.support.aio import aio, until
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call
from tests.router.support.kv_publisher import KvPublisher, stored
from tests.router.support.plain import PlainServer

IDS = list(range(100, 140))
POLICIES = pytest.mark.parametrize(
    "policy", [CacheAware(), PredictedLatency()], ids=["cache_aware", "predicted_latency"]
)


def of(ids: list[int]) -> RoutingContext:
    return RoutingContext(token_prefix(ids))


def holding(*ids: int) -> KvBlocks:
    blocks = KvBlocks(2)
    blocks.clear()
    blocks.store(range(len(ids) // 2), None, ids)
    return blocks


@POLICIES
def test_the_server_that_has_it_gets_it(policy: Policy) -> None:
    group = workers(0, 0)
    guessed = policy.choose(group, of(IDS))
    (other,) = set(group) - {guessed}
    assert policy.choose(group, of(IDS)) is guessed
    guessed.kv_blocks, other.kv_blocks = holding(), holding(*IDS)  # it was evicted here, and stored there
    assert policy.choose(group, of(IDS)) is other


@POLICIES
def test_the_guess_counts_when_events_stop(policy: Policy) -> None:
    now = 0.0
    group = workers(0, 0)
    group[0].kv_blocks = KvBlocks(2, clock=lambda: now)
    group[0].kv_blocks.clear()
    prompt = of([7, *IDS])
    first = policy.choose(group[:1], prompt)
    group[1].load.requests = 1  # it would be the worse one otherwise
    now = 100.0
    group[0].load.requests = 1
    assert policy.choose(group, prompt) is first


@POLICIES
def test_texts_are_guessed(policy: Policy) -> None:
    group = workers(0, 0)
    text = RoutingContext(PromptPrefix("a text that is long enough to count" * 5))
    first = policy.choose(group, text)
    for worker in group:
        worker.kv_blocks = holding()
    assert policy.choose(group, text) is first


class Publishing(PlainServer):
    """A server that publishes events."""

    def __init__(self, publisher: KvPublisher) -> None:
        super().__init__()
        self._publisher = publisher

    async def _handle(self, call: Call) -> None:
        if call.path == "/server_info":
            info = {"served_model_name": "m", "disaggregation_mode": "null", "version": "0.5.17"}
            await call.answer({**info, **self._publisher.server_info})
        else:
            await super()._handle(call)


@aio
async def test_a_router_follows_its_servers() -> None:
    async with KvPublisher() as first, KvPublisher() as second:
        settings: dict[str, Any] = {"policy": "cache_aware", "kv_events": KvEventSettings(enabled=True)}
        async with BeforePlain([Publishing(first), Publishing(second)], **settings) as two:
            for server in two.servers:
                server.answer = lambda call: call.answer({"text": ""})
            known = {worker.url: worker for worker in two.router.registry.workers}
            await until(lambda: all(worker.kv_blocks is not None for worker in known.values()), "all are followed")
            for publisher, server, ids in ((first, two.servers[0], IDS), (second, two.servers[1], IDS[::-1])):
                await publisher.subscribed()
                await publisher.publish(stored(list(range(20)), None, ids))
                worker = known[server.url]
                await until(lambda worker=worker: len(worker.kv_blocks or ()) == 20, "its events came")  # type: ignore[misc]
            for _ in range(3):
                for ids in (IDS, IDS[::-1]):
                    assert (await two.router.post("/generate", {"model": "m", "input_ids": ids})).status_code == 200
            assert [{call.json["input_ids"][0] for call in server.asked} for server in two.servers] == [{100}, {139}]
            metrics = (await two.router.http.get("/metrics")).text
            assert f'moa_worker_kv_blocks{{worker="{two.servers[0].url}"}} 20.0' in metrics
            assert f'moa_worker_kv_events_used{{worker="{two.servers[0].url}"}} 1.0' in metrics
