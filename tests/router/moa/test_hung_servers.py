"""Servers that take a request and say nothing: no agent waits for ever, and another server gets its turn.

(Fakes: a real server does not hang at a chosen moment.)
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from router.server.settings import ServerSettings
from router.speculative_prefill import tokenizer
from tests.router.moa.test_run_failures import by_name, write_tree
from tests.router.moa.test_tree_runs import CHAT, Agents, hangs, streams_then_hangs
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, FakeServer, FakeWorker, chat_event, native_event
from tests.router.support.serving import Serving, serving


@pytest.fixture
def agents() -> Agents:
    return Agents()


def hang_at(worker: FakeWorker, path: str) -> None:
    """Let a server say nothing to requests of one path."""
    handle = worker.server.handler

    async def handler(call: Call) -> None:
        await (call.gone() if call.path == path else handle(call))

    worker.server.handler = handler


def failures(router: Serving) -> list[int]:
    """What the breakers of the prefill and the decode servers have counted."""
    workers = router.registry.workers
    return [each.breaker.outcomes["failure"] for role in ("prefill", "decode") for each in workers if each.role == role]


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_another_server_tokenizes(agents: Agents, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "TOKENIZE_TIMEOUT", 0.5)

    @aio
    async def test() -> None:
        hang_at(agents.pair.prefill, path)
        async with serving(agents.pair, trees=write_tree(tmp_path)) as router:
            answer = await within(5.0, router.post("/v1/chat/completions", CHAT))
            assert answer.status_code == 200
            assert 1 <= len(agents.pair.prefill.server.to(path)) <= 6, "each agent asks it once at most"
            assert failures(router)[1] == 0
            assert failures(router)[0] == len(agents.pair.prefill.server.to(path))
            await router.settled()

    test()


@aio
async def test_where_no_server_tokenizes_the_run_fails(
    agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "TOKENIZE_TIMEOUT", 0.5)
    for worker in (agents.pair.prefill, agents.pair.decode):
        hang_at(worker, "/tokenize")
    async with serving(agents.pair, trees=write_tree(tmp_path)) as router:
        answer = await within(5.0, router.post("/v1/chat/completions", CHAT))
        assert answer.status_code == 504
        assert "did not answer /tokenize within 0.5 s" in answer.json()["error"]["message"]
        await router.settled()


@pytest.mark.parametrize(("answer", "counted"), [(hangs, [1, 1]), (streams_then_hangs, [0, 1])])
def test_silence_counts_for_the_breakers(
    agents: Agents, tmp_path: Path, answer: Callable[[Call], Awaitable[None]], counted: list[int]
) -> None:
    """For both servers while either may be the silent one; for decode once its answer has begun."""

    @aio
    async def test() -> None:
        agents.answer["p3"] = answer
        async with serving(agents.pair, trees=write_tree(tmp_path, timeout=1.0, retries=0)) as router:
            told = await within(5.0, router.post("/v1/chat/completions", CHAT))
            assert told.status_code == 504
            await router.settled()
            assert failures(router) == counted

    if answer is hangs:

        async def decode_says_nothing(call: Call) -> None:
            await call.gone()

        generate = agents.pair.decode.generate

        async def handler(call: Call) -> None:
            await (decode_says_nothing(call) if Agents.name(call) == "p3" else generate(call))

        agents.pair.decode.generate = handler
    test()


@aio
async def test_the_time_of_an_ordinary_request_counts_too() -> None:
    pair = FakePair()
    pair.decode.generate = hangs
    async with serving(pair, server=ServerSettings(request_timeout_secs=0.3)) as router:
        assert (await within(5.0, router.post("/generate", {"text": "x"}))).status_code == 504
        await router.settled()
        assert failures(router) == [1, 1]


@aio
async def test_a_stream_that_began_and_stopped_counts_for_nobody() -> None:
    pair = FakePair()

    async def slow(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await call.gone()

    pair.decode.generate = slow
    async with serving(pair, server=ServerSettings(request_timeout_secs=1.0)) as router:
        answer = await within(5.0, router.post("/generate", {"text": "x", "stream": True}))
        assert "the request was not answered within 1 s." in answer.text
        await router.settled()
        assert failures(router) == [0, 0]


@aio
async def test_the_next_attempt_goes_to_other_servers(agents: Agents, tmp_path: Path) -> None:
    other = Agents()
    other.pair.rooms = agents.pair.rooms  # any prefill server works with any decode server
    agents.pair.decode.generate = hangs
    async with serving(agents.pair, other.pair, trees=write_tree(tmp_path, timeout=0.8, retries=1)) as router:
        answer = await within(10.0, router.post("/v1/chat/completions", CHAT))
        assert answer.status_code == 200, answer.text
        attempts = {name: agent["attempts"] for name, agent in by_name(answer.json()).items()}
        assert max(attempts.values()) == 2
        assert len(agents.pair.decode.requests) == sum(count - 1 for count in attempts.values())


@aio
async def test_a_tree_has_the_time_of_any_request(agents: Agents, tmp_path: Path) -> None:
    agents.answer["p3"] = hangs
    server = ServerSettings(request_timeout_secs=0.3)
    async with serving(agents.pair, trees=write_tree(tmp_path), server=server) as router:
        answer = await within(5.0, router.post("/v1/chat/completions", CHAT))
        assert answer.status_code == 504
        assert answer.json()["error"]["message"] == "the request was not answered within 0.3 s."
        await router.settled()
        (seen,) = (await router.http.get("/runs")).json()["runs"]
        assert seen["state"] == "cancelled"


@aio
async def test_a_tree_that_streams_has_that_time_too(agents: Agents, tmp_path: Path) -> None:
    agents.answer["final"] = streams_then_hangs
    server = ServerSettings(request_timeout_secs=3.0)
    async with serving(agents.pair, trees=write_tree(tmp_path), server=server) as router:
        answer = await within(5.0, router.post("/v1/chat/completions", {**CHAT, "stream": True}))
        assert "partial" in answer.text
        assert "the request was not answered within 3 s." in answer.text
        await router.settled()


@aio
async def test_a_plain_server_that_hangs_is_avoided(tmp_path: Path) -> None:
    async def plain(call: Call) -> None:
        if call.method == "GET":
            await call.answer({"data": [{"id": "fake"}]}, 404 if call.path == "/server_info" else 200)
        else:
            await answer_plain(call)

    async def hung(call: Call) -> None:
        await (plain(call) if call.method == "GET" else call.gone())

    async def answer_plain(call: Call) -> None:
        event: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": "plain"}, "finish_reason": "stop"}]}
        await call.stream(event)
        await call.done()

    trees = write_tree(tmp_path, timeout=0.8, retries=1)
    async with (
        FakeServer(hung) as bad,
        FakeServer(plain) as good,
        serving(trees=trees, plain=(bad.url, good.url)) as router,
    ):
        answer = await within(10.0, router.post("/v1/chat/completions", CHAT))
        assert answer.status_code == 200, answer.text
        assert max(agent["attempts"] for agent in by_name(answer.json()).values()) == 2


@aio
async def test_a_slow_answer_is_no_silence(agents: Agents, tmp_path: Path) -> None:
    async def slow(call: Call) -> None:
        await call.stream(native_event("a"))
        for length in range(2, 9):
            await asyncio.sleep(0.25)
            await call.event(native_event("a" * length))
        await call.event(native_event("a" * 9, "stop", (1, 9)))
        await call.done()

    agents.answer["p3"] = slow
    async with serving(agents.pair, trees=write_tree(tmp_path, timeout=1.5, retries=0)) as router:
        assert (await within(5.0, router.post("/v1/chat/completions", CHAT))).status_code == 200
        assert failures(router) == [0, 0]


@aio
async def test_few_requests_at_once_go_to_a_server_that_tokenizes(
    agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the agents of many trees begin at the same moment, and their clients leave."""
    monkeypatch.setattr(tokenizer, "AT_ONCE", 4)
    servers = (agents.pair.prefill, agents.pair.decode)
    for each in servers:
        hang_at(each, "/tokenize")

    def at_work() -> list[int]:
        return [len(each.server.to("/tokenize")) for each in servers]

    async with serving(agents.pair, trees=write_tree(tmp_path)) as router:
        bodies = [CHAT | {"messages": [{"role": "user", "content": f"Why {k}?"}]} for k in range(10)]
        asked = [asyncio.create_task(router.post("/v1/chat/completions", body)) for body in bodies]
        await until(lambda: at_work() == [4, 4], "as many as may be, at each server")
        await until(lambda: len(router.requests) == 10, "all have come")
        await asyncio.sleep(0.05)
        assert at_work() == [4, 4]
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await router.freed()
