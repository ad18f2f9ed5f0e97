"""`/get_server_info`: what each worker holds, so that a leak shows; and workers that answer no questions."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from router.server.settings import ServerSettings
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, Handler, chat_event, head, whole
from tests.router.support.raw import CHAT
from tests.router.support.serving import Serving, serving

KV = {"total": 100, "free": 60, "evictable": 40, "protected": 0}
REQUESTS = {"running": 0, "waiting": 0}


def with_overlay(pair: FakePair, *parts: dict[str, Any]) -> None:
    """Let both servers tell these parts, one for each rank."""
    for worker in (pair.prefill, pair.decode):
        worker.info["internal_states"] = [{"sglang_ext": {"version": "0.1.0", **part}} for part in parts]


async def told(client: Serving, path: str = "/get_server_info") -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = (await client.http.get(path)).json()["workers"]
    return workers


@aio
async def test_what_workers_hold() -> None:
    release = asyncio.Event()
    pair = FakePair()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await release.wait()
        await call.done()

    pair.decode.generate = decode
    with_overlay(pair, {"kv": KV, "requests": REQUESTS})
    async with serving(pair) as client:
        for path in ("/get_server_info", "/server_info"):
            prefill, _ = await told(client, path)
            assert prefill == {
                "url": pair.prefill.url,
                "role": "prefill",
                "model": "fake",
                "in_flight": 0,
                "requests": REQUESTS,
                "kv": KV,
                "idle": True,
                "problem": None,
            }
        streaming = asyncio.create_task(client.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await until(lambda: len(pair.decode.requests) == 1, "it streams")
        await until(lambda: client.registry.workers[0].load.requests == 0, "prefill's part is over")
        assert [(worker["in_flight"], worker["idle"]) for worker in await told(client)] == [(0, True), (1, False)]
        release.set()
        await within(3.0, streaming)
        await client.settled()
        assert [(worker["in_flight"], worker["idle"]) for worker in await told(client)] == [(0, True), (0, True)]


@pytest.mark.parametrize(
    ("parts", "idle"),
    [
        ([{"kv": KV, "requests": {"running": 1}}], False),
        ([{"kv": {**KV, "protected": 1}, "requests": REQUESTS}], False),
        ([{"kv": {**KV, "free": 59}, "requests": REQUESTS}], False),
        ([{"kv": KV, "requests": REQUESTS}, {"kv": KV, "requests": {"waiting": 1}}], False),
        ([{"kv": KV, "requests": REQUESTS}, {"kv": KV, "requests": REQUESTS}], True),
        ([{"kv": KV}], None),
        ([{"requests": REQUESTS, "kv": 7}], None),
        ([], None),
    ],
)
def test_a_leak_shows(parts: list[dict[str, Any]], idle: bool | None) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        with_overlay(pair, *parts)
        async with serving(pair) as client:
            assert [worker["idle"] for worker in await told(client)] == [idle, idle]

    test()


@pytest.mark.parametrize("info", [b"nonsense", b"[]", b'{"internal_states": 7}', b'{"internal_states": [7, {}]}'])
def test_odd_answers(info: bytes) -> None:
    async def odd(call: Call) -> None:
        await call.send(whole(info))

    @aio
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as client:
            pair.decode.server.handler = odd
            prefill, decode = await told(client)
            assert prefill["problem"] is None
            assert (decode["idle"], decode["requests"], decode["kv"]) == (None, None, None)
            assert (decode["problem"] is not None) == (info == b"nonsense")

    test()


@aio
async def test_only_who_has_the_key_sees_the_workers() -> None:
    """Who has none may not let the router ask all workers either."""
    async with serving(FakePair(), server=ServerSettings(api_key="secret")) as client:
        answer = await client.http.get("/get_server_info", headers={"authorization": "Bearer secret"})
        assert len(answer.json()["workers"]) == answer.json()["workers_count"] == 2
        asked = len(client.pairs[0].decode.server.calls)
        for headers in ({}, {"authorization": "Bearer other"}):
            answer = await client.http.get("/get_server_info", headers=headers)
            assert (answer.status_code, "workers" in answer.json()) == (200, False)
        assert len(client.pairs[0].decode.server.calls) == asked


async def silent(call: Call) -> None:
    await call.gone()


async def half(call: Call) -> None:
    await call.send(head(200, ("content-length", "9")) + b"{")
    await call.gone()


@pytest.mark.parametrize("handler", [silent, half])
def test_workers_that_hang(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before their answer's head or in its middle: no question of the router waits for them for ever."""
    monkeypatch.setattr("router.workers.queries.FETCH_TIMEOUT", 0.5)
    monkeypatch.setattr("router.workers.usage.USAGE_TIMEOUT", 0.5)
    monkeypatch.setattr("router.endpoints.passed.HELP_TIMEOUT", 0.5)

    @aio
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as client:
            pair.decode.server.handler = handler
            http = client.http

            async def within_time(asking: Any) -> httpx.Response:
                answer: httpx.Response = await within(2.0, asking)
                return answer

            problem = f"the worker {pair.decode.url} did not answer /server_info within 0.5 s."
            info = (await within_time(http.get("/get_server_info"))).json()["workers"]
            assert [worker["problem"] for worker in info] == [None, problem]
            loads = (await within_time(http.get("/get_loads"))).json()["workers"]
            assert loads[1]["load"] == -1
            assert (await within_time(client.post("/flush_cache", {}))).status_code == 502
            for asking in (
                http.get("/get_model_info"),
                client.post("/v1/tokenize", {"prompt": "x"}),
                client.post("/v1/detokenize", {"tokens": [1]}),
            ):
                answer = await within_time(asking)
                assert answer.status_code == 504
                assert re.search("not answer.* within 0.5 s", answer.json()["error"]["message"])
            await client.freed()

    test()
