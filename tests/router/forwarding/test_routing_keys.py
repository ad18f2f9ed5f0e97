"""Sessions and loads through the whole router: plain servers, pairs, several processes, several routers."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest

from router.load_balancing import PolicySettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.load_monitor import LoadMonitorSettings
from tests.router.forwarding.test_plain_attempts import BODY, CHAT, QUICK, RARELY_PROBED, Plain, Two
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving, together

PAIR_BODY = {**BODY, "model": "fake"}
KEY, TARGET = "x-smg-routing-key", "x-smg-target-worker"


async def served_by(two: Two, headers: dict[str, str] | None = None, **more: Any) -> str:
    answer = await two.router.http.post(CHAT, json={**BODY, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    told = answer.json()["served_by"]
    assert isinstance(told, str)
    return told


@pytest.mark.parametrize("policy", ["consistent_hashing", "manual", "prefix_hash"])
def test_a_session_stays_on_its_server(policy: str) -> None:
    async def test() -> None:
        async with Two(policy=policy) as two:
            for key in ascii_lowercase:
                by_header = {await served_by(two, {KEY: key}, user=str(i)) for i in range(2)}
                by_body = {await served_by(two, session_id=key) for _ in range(2)}
                assert len(by_header) == len(by_body) == 1
                assert by_header == by_body
            assert all(server.generations for server in two.servers)
            branches = await two.metric(rf"smg_{policy}_policy_branch_total\{{branch=\".*\"\}}")
            assert sum(map(float, branches)) == 4 * len(ascii_lowercase)
            if policy == "manual":
                assert await two.metric("smg_manual_policy_cache_entries") == ["26.0"]

    run(test)


@aio
async def test_another_header_can_have_the_key() -> None:
    settings = PolicySettings(routing_key_headers=("X-Session",))
    async with Two(policy="manual", policies=settings) as two:
        assert len({await served_by(two, {"x-session": "s"}) for _ in range(8)}) == 1
        assert len({await served_by(two, {KEY: "s"}) for _ in range(40)}) == 2


@pytest.mark.parametrize("policy", ["consistent_hashing", "manual", "prefix_hash"])
def test_a_session_whose_server_dies_goes_on_elsewhere(policy: str) -> None:
    async def test() -> None:
        async with Two(policy=policy) as two:
            home = await served_by(two, {KEY: "s"})
            (dead,) = (server for server in two.servers if server.url == home)
            await dead.__aexit__()
            assert {await served_by(two, {KEY: "s"}) for _ in range(5)} == {
                server.url for server in two.servers if server is not dead
            }

    run(test)


@pytest.mark.parametrize("policy", ["consistent_hashing", "manual", "prefix_hash"])
def test_an_open_breaker_counts_more_than_a_key(policy: str) -> None:
    async def test() -> None:
        breaker = CircuitBreakerSettings(failure_threshold=1)
        async with Two(policy=policy, breaker=breaker) as two:
            home = await served_by(two, {KEY: "s"})
            (sick,) = (server for server in two.servers if server.url == home)
            sick.answer = lambda call: call.answer({"error": "no"}, 500)
            for _ in range(5):
                assert await served_by(two, {KEY: "s"}) != home
            assert len(sick.generations) == 2

    run(test)


@aio
async def test_a_client_may_name_the_server() -> None:
    async with Two(policy="consistent_hashing") as two:
        for number, server in enumerate(two.servers):
            assert {await served_by(two, {TARGET: str(number), KEY: "s"}) for _ in range(5)} == {server.url}
        for wrong in ("2", "-1", "x", "²", "1" * 5000):
            answer = await two.router.http.post(CHAT, json=BODY, headers=[(TARGET.encode(), wrong.encode("latin-1"))])
            assert answer.status_code == 400
            assert "the model has 2 plain servers, with numbers from 0 on." in answer.json()["error"]["message"]
        await two.servers[1].__aexit__()
        await served_by(two)
        worker = two.router.registry.workers[1]
        answer = await two.router.http.post(CHAT, json=BODY, headers={TARGET: "1"})
        assert worker.health.away
        assert answer.status_code in (502, 503)
        answer = await two.router.http.post(CHAT, json=BODY, headers={TARGET: "1"})
        assert answer.status_code == 503
        assert "takes no requests now" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "1"


@aio
async def test_other_policies_take_no_orders() -> None:
    async with Two(policy="round_robin") as two:
        assert len({await served_by(two, {TARGET: "7"}) for _ in range(4)}) == 2


def meeting_pairs(count: int) -> list[FakePair]:
    """Pairs whose prefill servers work with every decode server."""
    pairs = [FakePair() for _ in range(count)]
    for pair in pairs:
        pair.rooms = pairs[0].rooms
    return pairs


async def workers_of(router: Serving, pairs: list[FakePair], headers: dict[str, str]) -> tuple[int, int]:
    """The numbers of the prefill and decode server that got a request."""
    before = [(len(pair.prefill.requests), len(pair.decode.requests)) for pair in pairs]
    answer = await router.http.post(CHAT, json=PAIR_BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    await router.settled()
    after = [(len(pair.prefill.requests), len(pair.decode.requests)) for pair in pairs]
    more = [(new[0] - old[0], new[1] - old[1]) for old, new in zip(before, after, strict=True)]
    return [each[0] for each in more].index(1), [each[1] for each in more].index(1)


@pytest.mark.parametrize("policy", ["consistent_hashing", "manual", "prefix_hash"])
def test_a_session_stays_on_its_prefill_and_on_its_decode_server(policy: str) -> None:
    async def test() -> None:
        pairs = meeting_pairs(3)
        async with serving(*pairs, policy=policy) as router:
            homes = {key: await workers_of(router, pairs, {KEY: key}) for key in ascii_lowercase}
            assert {key: await workers_of(router, pairs, {KEY: key}) for key in homes} == homes
            assert any(prefill != decode for prefill, decode in homes.values()), "each role decides for itself"

    run(test)


@aio
async def test_each_role_has_a_policy_of_its_own() -> None:
    pairs = meeting_pairs(2)
    async with serving(*pairs, prefill_policy="manual", decode_policy="round_robin") as router:
        chosen = [await workers_of(router, pairs, {KEY: "s"}) for _ in range(4)]
        assert len({prefill for prefill, _ in chosen}) == 1
        assert [decode for _, decode in chosen] in ([0, 1, 0, 1], [1, 0, 1, 0])


@pytest.mark.parametrize("policy", ["consistent_hashing", "manual", "prefix_hash"])
def test_processes_of_a_router_decide_alike(policy: str, tmp_path: Path) -> None:
    async def test() -> None:
        pairs = meeting_pairs(3)
        async with together(*pairs, folder=tmp_path, policy=policy) as routers:
            for key in "abcdef":
                one, other = [await workers_of(router, pairs, {KEY: key}) for router in routers]
                assert one == other

    run(test)


class Busy(Plain):
    """A server that answers when told to, and tells how many requests it has."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.free = asyncio.Event()
        self.answer = self._hold

    async def _handle(self, call: Call) -> None:
        if call.path.startswith("/v1/loads"):
            await call.answer({"loads": [{"num_running_reqs": self.requests, "num_waiting_reqs": 0}]})
        else:
            await super()._handle(call)

    async def _hold(self, call: Call) -> None:
        self.requests += 1
        await self.free.wait()
        self.requests -= 1
        await call.answer({"served_by": self.url})


@pytest.mark.parametrize("policy", ["least_load", "power_of_two"])
def test_routers_before_the_same_servers_see_each_others_load(policy: str) -> None:
    """By its own count the second router would share its requests out evenly.

    The first one's requests are far more than the second's: while a server tells its load, another request may come to
    it and count twice.
    """

    async def test() -> None:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(Busy()) for _ in range(2)]
            urls = tuple(server.url for server in servers)
            settings: dict[str, Any] = {"plain": urls, "retries": QUICK, "health": RARELY_PROBED}
            one = await stack.enter_async_context(serving(policy="passthrough", **settings))
            loads = LoadMonitorSettings(interval_secs=0.01, stale_secs=60)
            other = await stack.enter_async_context(serving(policy=policy, loads=loads, **settings))
            for server in servers:
                stack.callback(server.free.set)

            async def send(router: Serving, count: int) -> None:
                """Send requests one after the other; each has arrived before the next is sent."""
                for _ in range(count):
                    arrived = sum(server.requests for server in servers)
                    asked.append(asyncio.create_task(router.http.post(CHAT, json=BODY)))
                    await until(lambda arrived=arrived: sum(s.requests for s in servers) > arrived, "it arrived")  # type: ignore[misc]

            asked: list[asyncio.Task[Any]] = []
            await send(one, 12)
            assert [server.requests for server in servers] == [12, 0]
            first, second = other.registry.workers
            await until(lambda: first.server_load is not None and first.server_load.requests == 12, "it knows")
            await until(lambda: second.server_load is not None, "it knows the other")
            await send(other, 5)
            assert [server.requests for server in servers] == [12, 5]
            for server in servers:
                server.free.set()
            assert {(await each).status_code for each in asked} == {200}

    run(test)


@aio
async def test_servers_are_asked_only_where_a_policy_needs_it() -> None:
    async with Two(policy="cache_aware", loads=LoadMonitorSettings(interval_secs=0.001)) as two:
        await served_by(two)
        assert not any(call.path.startswith(("/v1/loads", "/get_load")) for s in two.servers for call in s.calls)
        assert await two.metric(r"smg_engine_load_polls_total\{.*\}") == []
