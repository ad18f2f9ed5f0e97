"""Paths that are passed to a server of the model as they are (the servers are fakes)."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.dispatch.retries import RetrySettings
from router.endpoints.passed_paths import PASSED_PATHS, RESPONSES_PATH, PassedPath
from router.server.settings import ServerSettings
from router.workers.health import HealthSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call, FakePair, whole
from tests.router.support.keys import bearer, key_of, with_keys
from tests.router.support.plain import PlainServer
from tests.router.support.serving import serving
from tests.router.support.sglang_answers import message_events, of_engine

MESSAGES = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["a", "b"]},
    "/encode": {"text": "a"},
    "/v1/classify": {"input": "a"},
    "/classify": {"text": "a"},
    "/v1/score": {"query": "a", "items": ["b"], "label_token_ids": [1]},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/tokenize": {"prompt": ["a"]},
    "/detokenize": {"tokens": [97]},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/v1/responses": {"input": "a"},
}
ALL = (*PASSED_PATHS, RESPONSES_PATH)
RETRYING = {
    "retries": RetrySettings(initial_backoff_ms=1),
    "health": HealthSettings(probe_interval_secs=1000, skip_warm_up=True),
    "policy": "round_robin",
}
BY_PATH = pytest.mark.parametrize("path", ALL, ids=lambda path: path.paths[0])


@BY_PATH
def test_a_plain_server_answers(path: PassedPath) -> None:
    """With its own answer and headers, on each of the paths, and with the model's name where a client gave none."""

    async def test() -> None:
        server, body = PlainServer(), BODIES[path.server_path]
        async with server, serving(plain=(server.url,)) as router:
            for name in path.paths:
                for model in ("m", None, "default"):
                    answer = await router.post(name, {"model": model, **body})
                    assert answer.status_code == 200, answer.text
                    call = server.calls[-1]
                    assert (call.path, call.json["model"]) == (path.server_path, "m")
                    assert {key: call.json[key] for key in body} == body
                    if path.needs_engine:
                        assert answer.json() == of_engine(path.server_path, call.json)
            unknown = await router.post(path.paths[0], {**body, "model": "nobody"})
            assert unknown.status_code == 404
            assert unknown.json()["error"]["message"] == "the model 'nobody' is not served here; served: m."

    run(test)


@BY_PATH
def test_a_pair_answers_what_needs_no_engine(path: PassedPath) -> None:
    """And refuses the rest with a sentence, before anything is sent."""

    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            for name in path.paths:
                answer = await router.post(name, {"model": "fake", **BODIES[path.server_path]})
                if path.needs_engine:
                    assert answer.status_code == 400
                    told = answer.json()["error"]["message"]
                    assert told == f"{name} is not served for 'fake': {path.refused_on_pairs}."
                else:
                    assert answer.status_code == 200, answer.text
                    assert pair.decode.server.calls[-1].path == path.server_path
            assert pair.prefill.requests == pair.decode.requests == []
            assert not any(call.path == path.server_path for call in pair.prefill.server.calls)

    run(test)


@BY_PATH
def test_fields_are_checked_as_for_chat(path: PassedPath) -> None:
    async def test() -> None:
        server = PlainServer()
        async with server, serving(plain=(server.url,)) as router:
            before = len(server.calls)
            for field, words in (
                ({"model": "moa"}, "'moa' is a tree of agents"),
                ({"model": 3}, "`model` must be a string"),
                ({"run": "r"}, "takes no `run`"),
                ({"stream": "yes"}, "`stream` must be true or false"),
                ({"bootstrap_room": 1}, "`bootstrap_room` is set by the router alone"),
                ({"positional_embed_overrides": {}}, "`positional_embed_overrides` is not taken here"),
            ):
                answer = await router.post(path.paths[0], {"model": "m", **BODIES[path.server_path], **field})
                assert (answer.status_code, words in answer.text) == (400, True), answer.text
            if path.needs_engine:
                answer = await router.post(path.paths[0], {**BODIES[path.server_path], "temperature": -1})
                assert (answer.status_code, "`temperature`" in answer.text) == (400, True)
            too_long = await router.http.post(path.paths[0], content=b" " * (1 << 20) + b"{}")
            assert too_long.status_code == 413
            assert len(server.calls) == before

    run(test)


@pytest.mark.parametrize("path", ["/encode", "/classify"])
def test_what_json_cannot_say_to_sglang_is_refused(path: str) -> None:
    async def test() -> None:
        server = PlainServer()
        async with server, serving(plain=(server.url,)) as router:
            answer = await router.post(path, {"text": "a", "embed_override_token_id": 1, "embed_overrides": [[[0.5]]]})
            assert answer.status_code == 400
            assert "`embed_overrides` is not taken here" in answer.text
            assert server.asked == []

    run(test)


async def drops(call: Call) -> None:
    """Answer nothing."""
    call.drop()


class Two(BeforePlain[PlainServer]):
    """A router before two plain servers."""

    def __init__(self, *, sglang: bool = True, **settings: Any) -> None:
        super().__init__([PlainServer(sglang=sglang), PlainServer(sglang=sglang)], **RETRYING | settings)


@BY_PATH
def test_when_one_of_two_servers_dies_no_request_fails(path: PassedPath) -> None:
    async def test() -> None:
        async with Two() as two:
            first = two.servers[0]
            first.answer = first.help = drops
            other = two.router.registry.workers[1]
            other.load.requests = 1  # So that what goes to the idlest goes to the first.
            for _ in range(4):
                answer = await two.router.post(path.paths[0], BODIES[path.server_path])
                assert answer.status_code == 200, answer.text
            assert first.asked
            other.load.requests = 0

    run(test)


@BY_PATH
def test_a_500_is_the_engines_failure_only_where_it_is_asked(path: PassedPath) -> None:
    """A text that breaks a tokenizer breaks it on every server, and must not open the breakers of them all."""

    async def test() -> None:
        async with Two() as two:
            for server in two.servers:
                server.answer = server.help = lambda call: call.answer({"error": {"message": "broken"}}, 500)
            answer = await two.router.post(path.paths[0], BODIES[path.server_path])
            assert answer.status_code == 500
            attempts = sum(len(server.asked) for server in two.servers)
            failures = sum(worker.breaker.consecutive_failures for worker in two.router.registry.workers)
            assert (attempts, failures) == ((5, 5) if path.needs_engine else (1, 0))

    run(test)


@aio
async def test_the_idlest_server_tokenizes() -> None:
    async with Two() as two:
        two.router.registry.workers[0].load.requests = 3
        for _ in range(4):
            assert (await two.router.post("/tokenize", {"prompt": ["a"]})).status_code == 200
        assert [len(server.asked) for server in two.servers] == [0, 4]
        two.router.registry.workers[0].load.requests = 0


@pytest.mark.parametrize("path", ["/v1/classify", "/encode"])
def test_a_path_that_the_server_has_not(path: str) -> None:
    async def test() -> None:
        server = PlainServer(sglang=False)
        async with server, serving(plain=(server.url,)) as router:
            answer = await router.post(path, {"input": "a", "text": "a"})
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == f"the model's server has no {path}."
            refusal = b'{"error": {"message": "no such adapter"}}'
            server.answer = lambda call: call.send(whole(refusal, 404, ("content-type", "application/json")))
            assert (await router.post("/v1/embeddings", {"input": "a"})).content == refusal

    run(test)


@pytest.mark.parametrize("sglang", [True, False])
def test_messages_are_streamed_byte_for_byte(sglang: bool) -> None:
    async def test() -> None:
        server = PlainServer(sglang=sglang)
        server.answer = lambda call: call.send(whole(message_events(), 200, ("content-type", "text/event-stream")))
        async with server, serving(plain=(server.url,)) as router:
            answer = await router.post("/v1/messages", {**BODIES["/v1/messages"], "stream": True})
            assert answer.content == message_events()
            assert answer.headers["content-type"].startswith("text/event-stream")

    run(test)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_an_error_in_a_stream_of_named_events_has_a_name(path: str) -> None:
    """Anthropic's client raises no error for an event without one."""

    async def breaks(call: Call) -> None:
        await call.stream({"type": "ping"})
        call.drop()

    async def test() -> None:
        server = PlainServer()
        server.answer = breaks
        async with server, serving(plain=(server.url,)) as router:
            answer = await router.post(path, {**BODIES[path], "stream": True})
            *_, name, data = answer.text.strip().splitlines()
            assert name == "event: error"
            assert data.startswith('data: {"type":"error","error":{"message":"')

    run(test)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/embeddings"])
def test_a_client_that_leaves_ends_its_request(path: str) -> None:
    """SGLang is told by the id where it takes one."""
    left = asyncio.Event()

    async def hangs(call: Call) -> None:
        await call.gone()
        left.set()

    async def test() -> None:
        server = PlainServer()
        server.answer = hangs
        async with server, serving(plain=(server.url,)) as router:
            request = asyncio.create_task(router.post(path, BODIES[path]))
            await until(lambda: bool(server.asked), "the server has it")
            call = server.asked[0]
            request.cancel()
            await left.wait()
            if path == "/v1/responses":
                await until(lambda: bool(server.to("/abort_request")), "an abort")
                assert server.to("/abort_request")[0].json == {"rid": call.json["request_id"]}
            await router.settled()

    run(test)


@aio
async def test_anthropics_key_header(tmp_path: Path) -> None:
    """Clients of Anthropic's API send their key in `x-api-key`; a wrong `authorization` is not saved by it."""
    server, body = PlainServer(), BODIES["/v1/messages"]
    keys = with_keys(tmp_path, {"data": ["data"], "runs": ["runs"]})
    async with server, serving(plain=(server.url,), server=keys) as router:
        for name, status in (("data", 200), ("runs", 403), ("nobody", 401)):
            headers = {"x-api-key": key_of(name), "anthropic-version": "2023-06-01"}
            assert (await router.http.post("/v1/messages", json=body, headers=headers)).status_code == status
        both = {"x-api-key": key_of("data"), **bearer("nobody")}
        assert (await router.http.post("/v1/messages", json=body, headers=both)).status_code == 401
        assert (await router.http.post("/v1/messages", json=body)).status_code == 401
        assert key_of("data") not in repr([call.headers for call in server.calls])


@aio
async def test_a_server_that_does_not_tokenize_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.endpoints.passed.HELP_TIMEOUT", 0.05)
    server = PlainServer()
    server.help = lambda call: call.gone()
    async with server, serving(plain=(server.url,), server=ServerSettings(request_timeout_secs=600)) as router:
        answer: httpx.Response = await router.post("/tokenize", {"prompt": ["a"]})
        assert answer.status_code == 504
        assert router.registry.workers[0].breaker.consecutive_failures == 1


@aio
async def test_metrics_name_the_endpoint() -> None:
    server = PlainServer()
    async with server, serving(plain=(server.url,)) as router:
        await router.post("/v1/embeddings", BODIES["/v1/embeddings"])
        text = (await router.http.get("/metrics")).text
        assert any('endpoint="embeddings"' in line and 'model="m"' in line for line in text.splitlines())
