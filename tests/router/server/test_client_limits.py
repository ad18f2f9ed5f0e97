"""Limits of single clients, beside those of the whole router."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.access.client import Client
from router.errors import BadRequest, TooManyRequests
from router.server.admission import AdmissionSettings
from router.server.admission.client_limits import ClientLimits
from router.server.admission.ticket import AdmissionTickets
from router.server.processes.limit_shares import client_share
from tests.router.agent_runs.test_agent_runs import chat
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT as TREE
from tests.router.moa.test_tree_runs import Agents
from tests.router.server.test_admission import Slow
from tests.router.server.test_peers import run_of
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import FakePair
from tests.router.support.keys import bearer, key_of, with_entries
from tests.router.support.serving import Serving, serving, together


def limited(name: str, **limits: Any) -> dict[str, Any]:
    return {"name": name, "key": key_of(name), "rights": ["data", "runs"], **limits}


def ask(client: Serving, name: str) -> "asyncio.Task[Any]":
    return asyncio.create_task(client.http.post("/generate", json={"text": "x"}, headers=bearer(name)))


@pytest.mark.claim("shares-are-kept")
@aio
async def test_a_client_has_so_many_requests_at_once(tmp_path: Path) -> None:
    pair = Slow()
    server = with_entries(tmp_path, limited("few", max_concurrent_requests=2), limited("free"))
    async with serving(pair, server=server) as client:
        running = [ask(client, "few"), ask(client, "few")]
        await until(lambda: len(pair.decode.requests) == 2, "two run")
        answer = await ask(client, "few")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        message = "the key 'few' has as many requests at once as it may; wait for one of them."
        assert answer.json()["error"]["message"] == message
        assert client.limits.decisions == {"allowed": 2, "rejected": 1}
        running += [ask(client, "free") for _ in range(4)]
        await until(lambda: len(pair.decode.requests) == 6, "others are not held up")
        pair.release.set()
        assert {(await each).status_code for each in running} == {200}
        assert (await ask(client, "few")).status_code == 200


@aio
async def test_a_client_has_so_many_requests_a_second(tmp_path: Path) -> None:
    server = with_entries(tmp_path, limited("rare", requests_per_second=0.001), limited("free"))
    async with serving(FakePair(), server=server) as client:
        assert (await ask(client, "rare")).status_code == 200
        answer = await ask(client, "rare")
        assert answer.status_code == 429
        assert 900 <= int(answer.headers["retry-after"]) <= 1000
        assert "the key 'rare' sends more requests a second than it may" in answer.json()["error"]["message"]
        for _ in range(5):
            assert (await ask(client, "free")).status_code == 200
            assert (await client.http.get("/v1/models", headers=bearer("rare"))).status_code == 200, "it costs nothing"


@aio
async def test_what_the_router_refuses_costs_the_client_nothing(tmp_path: Path) -> None:
    pair = Slow()
    server = with_entries(tmp_path, limited("a", requests_per_second=0.001, max_concurrent_requests=3), limited("b"))
    limits = AdmissionSettings(max_concurrent=1, queue_size=0)
    async with serving(pair, server=server, limits=limits) as client:
        first = ask(client, "b")
        await until(lambda: len(pair.decode.requests) == 1, "it runs")
        for _ in range(4):
            answer = await ask(client, "a")
            assert answer.status_code == 429
            assert "the key" not in answer.json()["error"]["message"]
        pair.release.set()
        assert (await first).status_code == 200
        assert (await ask(client, "a")).status_code == 200


@aio
async def test_who_leaves_the_queue_holds_no_place(tmp_path: Path) -> None:
    pair = Slow()
    server = with_entries(tmp_path, limited("a", max_concurrent_requests=1), limited("b"))
    async with serving(pair, server=server, limits=AdmissionSettings(max_concurrent=1)) as client:
        first = ask(client, "b")
        await until(lambda: len(pair.decode.requests) == 1, "it runs")
        waiting = ask(client, "a")
        gate = client.limits.gate
        assert gate is not None
        await until(lambda: gate.waiting == 1, "it waits")
        assert "as many requests at once" in (await ask(client, "a")).text
        waiting.cancel()
        await until(lambda: gate.waiting == 0, "it has left")
        again = ask(client, "a")
        await until(lambda: gate.waiting == 1, "another may wait")
        pair.release.set()
        assert [(await each).status_code for each in (first, again)] == [200, 200]


@aio
async def test_a_tree_counts_as_its_agents(tmp_path: Path) -> None:
    """It waits until nothing else of its client runs where it has more agents than the client may have requests."""
    agents = Agents()
    server = with_entries(tmp_path, limited("a", max_concurrent_requests=2))
    async with serving(agents.pair, trees=write_tree(tmp_path), server=server) as client:
        asked = [client.http.post("/v1/chat/completions", json=TREE, headers=bearer("a")) for _ in range(2)]
        answers = await within(5.0, asyncio.gather(*asked))
        assert {each.status_code for each in answers} <= {200, 429}
        assert (await client.http.post("/v1/chat/completions", json=TREE, headers=bearer("a"))).status_code == 200


@pytest.mark.parametrize("owner", [0, 1])
def test_a_request_that_waits_for_another_one_leaves_room_for_it(owner: int, tmp_path: Path) -> None:
    """In its own process and in another one."""

    async def test() -> None:
        agents = Agents()
        server = with_entries(tmp_path, limited("a", max_concurrent_requests=2))
        async with together(agents.pair, folder=tmp_path, server=server) as (router, _):
            name = run_of(owner)
            bodies = [chat("reader", "<|answer:x|>", run=name), chat("writer", "Speak.", run=name, agent="x")]
            path = "/v1/chat/completions"
            reader = asyncio.create_task(router.http.post(path, json=bodies[0], headers=bearer("a")))
            await asyncio.sleep(0.05)
            assert (await router.http.post(path, json=bodies[1], headers=bearer("a"))).status_code == 200
            assert (await within(3.0, reader)).status_code == 200
            assert (await router.http.post(path, json=chat("z", "Speak.", run=name), headers=bearer("a"))).is_success

    run(test)


@pytest.mark.claim("shares-are-kept")
def test_processes_share_what_a_client_has() -> None:
    client = Client("a", frozenset({"data"}), 8, 6.0)
    shares = [client_share(client, index, 3, 3) for index in range(3)]
    assert [each.max_concurrent_requests for each in shares] == [3, 3, 2]
    assert {each.requests_per_second for each in shares} == {2.0}
    free = Client("b", frozenset({"data"}))
    assert client_share(free, 0, 3, 3) == free
    with pytest.raises(BadRequest, match=r"^max_concurrent_requests 8 of the key a leaves nothing for some of 9 --wor"):
        client_share(client, 0, 1, 9)


def test_tickets_are_given_back_and_taken_together() -> None:
    async def test() -> None:
        limits = [ClientLimits(Client(name, frozenset({"data"}), 3, 1000.0), 0.05) for name in ("a", "b")]
        tickets = AdmissionTickets([each.enter() for each in limits])
        await tickets.reweigh(3)
        for each in limits:
            with pytest.raises(TooManyRequests):
                each.check()
        tickets.pause()
        for each in limits:
            each.check()
        await tickets.resume()
        await tickets.reweigh(1)
        for each in limits:
            each.enter().close()
        tickets.close()
        await asyncio.sleep(0.01)  # there are tokens again
        for each in limits:
            for _ in range(3):
                each.enter()  # and all places are free, of each limit

    run(test)
