"""Parsers of SGLang's servers, and the list of tokenizers (the servers are fakes)."""

import asyncio
from typing import Any

import pytest

from tests.router.endpoints.test_passed import drops
from tests.router.support.aio import aio, run
from tests.router.support.fakes import Call, FakePair
from tests.router.support.plain import PlainServer
from tests.router.support.serving import serving
from tests.router.workers.test_client_keys import KEY, locked

REASONING, CALLS = "/parse/reasoning", "/parse/function_call"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize("pairs", [True, False])
def test_parsed_as_by_the_other_routers(pairs: bool) -> None:
    async def test() -> None:
        server = PlainServer("fake")
        pair = FakePair()
        async with server, serving(*([pair] if pairs else []), plain=() if pairs else (server.url,)) as router:
            for model in ({}, {"model": "fake"}, {"model": "default"}):
                body = {"text": "<think>a</think>b", "reasoning_parser": "qwen3", **model}
                answer = await router.post(REASONING, body)
                assert answer.json() == {"normal_text": "b", "reasoning_text": "a", "success": True}
                asked: dict[str, Any] = {"text": "x", "tool_call_parser": "qwen25", **model}
                assert (await router.post(CALLS, asked)).json() == {
                    "remaining_text": "x",
                    "tool_calls": [],
                    "success": True,
                }
                called = (await router.post(CALLS, {**asked, "tools": [TOOL]})).json()["tool_calls"]
                assert called == [{"function": {"name": "f", "arguments": "{}"}}]

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (REASONING, {"text": "x", "reasoning_parser": "none"}, 400, "cannot be parsed with 'none'"),
        (REASONING, {"text": "x"}, 400, "`reasoning_parser` must be a string"),
        (REASONING, {"reasoning_parser": "qwen3"}, 400, "`text` must be a string"),
        (REASONING, {"text": "x", "reasoning_parser": "qwen3", "more": 1}, 400, "`more` is not known here"),
        (REASONING, {"text": "x", "reasoning_parser": "qwen3", "model": "moa"}, 400, "is a tree of agents"),
        (REASONING, {"text": "x", "reasoning_parser": "qwen3", "model": 1}, 400, "`model` must be a string"),
        (REASONING, {"text": "x", "reasoning_parser": "qwen3", "model": "n"}, 404, "the model 'n' is not served"),
        (REASONING, {"text": "x", "reasoning_parser": "qwen3", "model": "other"}, 501, "only SGLang's servers"),
        (CALLS, {"text": "x", "tool_call_parser": "qwen25", "tools": "f"}, 400, "`tools` must be a list"),
    ],
)
def test_what_cannot_be_parsed(path: str, body: dict[str, Any], status: int, words: str) -> None:
    async def test() -> None:
        other = PlainServer("other", sglang=False)
        async with other, serving(FakePair(), plain=(other.url,)) as router:
            answer = await router.post(path, body)
            assert answer.status_code == status, answer.text
            assert words in answer.json()["error"]["message"]
            assert other.asked == []

    run(test)


@aio
async def test_another_server_parses_when_one_is_away() -> None:
    first, second = PlainServer(), PlainServer()
    first.help = drops
    asked = {"text": "x", "reasoning_parser": "qwen3"}
    async with first, second, serving(plain=(first.url, second.url)) as router:
        assert (await router.post(REASONING, asked)).status_code == 200
        assert first.asked
        second.help = drops
        assert (await router.post(REASONING, asked)).status_code == 502
        for worker in router.registry.workers:
            worker.health.healthy = False
        assert (await router.post(REASONING, asked)).status_code == 503


@aio
async def test_a_server_that_cannot_now_is_no_reason_to_refuse_the_text() -> None:
    async def busy(call: Call) -> None:
        await call.answer({"error": {"message": "later"}}, 503)

    first, second = PlainServer(), PlainServer()
    first.help = busy
    asked = {"text": "x", "reasoning_parser": "qwen3"}
    async with first, second, serving(plain=(first.url, second.url)) as router:
        assert (await router.post(REASONING, asked)).status_code == 200
        assert first.asked
        second.help = busy
        answer = await router.post(REASONING, asked)
        assert (answer.status_code, "with 503: later" in answer.text) == (502, True)


@aio
async def test_a_client_that_leaves_ends_its_request() -> None:
    there, left = asyncio.Event(), asyncio.Event()

    async def hangs(call: Call) -> None:
        there.set()
        await call.gone()
        left.set()

    server = PlainServer()
    server.help = hangs
    async with server, serving(plain=(server.url,)) as router:
        request = asyncio.create_task(router.post(REASONING, {"text": "x", "reasoning_parser": "qwen3"}))
        await there.wait()
        request.cancel()
        await left.wait()


@pytest.mark.parametrize("model", [{}, {"model": "any"}])
def test_a_server_that_wants_clients_keys_gets_them(model: dict[str, str]) -> None:
    async def test() -> None:
        server = PlainServer()
        server.handler = locked(server._handle)
        asked = {"text": "<think>a</think>b", "reasoning_parser": "qwen3", **model}
        async with server, serving(plain=(server.url,)) as router:
            assert (await router.http.post(REASONING, json=asked, headers=KEY)).json()["reasoning_text"] == "a"
            answer = await router.post(REASONING, asked)
            assert (answer.status_code, "with 401" in answer.text) == (401, True)

    run(test)


@aio
async def test_the_tokenizers_are_those_of_the_models() -> None:
    plain, other, without = PlainServer(), PlainServer("other", sglang=False), FakePair("without")
    without.decode.info["skip_tokenizer_init"] = True
    async with plain, other, serving(FakePair(), without, plain=(plain.url, other.url)) as router:
        told = (await router.http.get("/v1/tokenizers")).json()["tokenizers"]
        assert [each["name"] for each in told] == ["fake", "m"]
        for each in told:
            for name in (each["id"], each["name"]):
                assert (await router.http.get(f"/v1/tokenizers/{name}")).json() == each
        assert (await router.http.get("/v1/tokenizers/none")).status_code == 404
        for method, path in (("POST", ""), ("DELETE", "/fake"), ("GET", "/fake/status")):
            answer = await router.http.request(method, f"/v1/tokenizers{path}", json={})
            assert (answer.status_code, "the router keeps no tokenizers" in answer.text) == (501, True)
