"""Who may ask and how answers are marked: API key, request ids, cross-origin requests, reserved fields."""

from typing import Any

import pytest

from router.dispatch.pair_fields import HARMFUL_FIELDS, RESERVED_FIELDS
from router.server.settings import ServerSettings
from tests.router.support.aio import aio
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
KEY = ServerSettings(api_key="secret")


@pytest.mark.parametrize(
    "given", [None, "", "secret", "Bearer", "Bearer  secret", "bearer secret", "Bearer secret2", "Bearer \xff"]
)
def test_without_the_key(given: str | None) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair(), server=KEY) as client:
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            for method, path in (
                ("POST", "/v1/chat/completions"),
                ("POST", "/generate"),
                ("GET", "/workers"),
                ("POST", "/workers"),
                ("DELETE", "/workers/x"),
                ("POST", "/flush_cache"),
                ("GET", "/health_generate"),
            ):
                answer = await client.http.request(method, path, headers=headers)  # type: ignore[arg-type]
                assert answer.status_code == 401, path
                assert "send it as `Authorization: Bearer KEY`" in answer.json()["error"]["message"]
            for path in ("/health", "/liveness", "/readiness", "/v1/models", "/get_server_info", "/metrics"):
                assert (await client.http.get(path, headers=headers)).status_code == 200, path  # type: ignore[arg-type]
            assert client.pairs[0].prefill.requests == []

    test()


@aio
async def test_with_the_key() -> None:
    async with serving(FakePair(), server=KEY) as client:
        headers = {"authorization": "Bearer secret"}
        assert (await client.http.post("/generate", json={"text": "x"}, headers=headers)).status_code == 200
        assert (await client.http.get("/workers", headers=headers)).status_code == 200
        for fake in (client.pairs[0].prefill, client.pairs[0].decode):
            told = {call.headers.get("authorization") for call in fake.server.calls}
            assert told == {"Bearer secret"}, "the workers want it too"


@aio
async def test_no_key_is_sent_where_none_was_given() -> None:
    async with serving(FakePair()) as client:
        headers = {"authorization": "Bearer the-client's-own"}
        assert (await client.http.post("/generate", json={"text": "x"}, headers=headers)).status_code == 200
        assert all("authorization" not in call.headers for call in client.pairs[0].decode.server.calls)


@aio
async def test_request_ids() -> None:
    async with serving(FakePair()) as client:
        for name in ("x-request-id", "x-correlation-id", "x-trace-id", "request-id"):
            answer = await client.http.post("/v1/chat/completions", json=CHAT, headers={name: "mine"})
            assert answer.headers["x-request-id"] == "mine"
        fresh = [
            (await client.http.get(path)).headers["x-request-id"] for path in ("/liveness", "/nowhere", "/liveness")
        ]
        assert len(set(fresh)) == 3
        answer = await client.http.get("/liveness", headers={"x-request-id": "x" * 300})
        assert answer.headers["x-request-id"] != "x" * 300
        stream = await client.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert stream.headers["x-request-id"]


@aio
async def test_request_ids_in_headers_of_ones_own() -> None:
    async with serving(FakePair(), server=ServerSettings(request_id_headers=("My-Id",))) as client:
        answer = await client.http.get("/liveness", headers={"my-id": "mine", "x-request-id": "other"})
        assert answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize(
    ("allowed", "origin", "told"),
    [
        ((), "http://any.example", "*"),
        (("http://ok.example",), "http://ok.example", "http://ok.example"),
        (("http://ok.example",), "http://ok.example.evil", None),
        (("http://ok.example",), None, None),
    ],
)
def test_cross_origin_requests(allowed: tuple[str, ...], origin: str | None, told: str | None) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair(), server=ServerSettings(cors_origins=allowed, api_key="k")) as client:
            headers = {} if origin is None else {"origin": origin}
            answer = await client.http.get("/liveness", headers=headers)
            assert answer.headers.get("access-control-allow-origin") == told
            before = await client.http.options(
                "/generate", headers={**headers, "access-control-request-method": "POST"}
            )
            assert before.status_code == 200, "a browser sends no key with it"
            assert before.headers.get("access-control-allow-origin") == told
            assert "POST" in before.headers["access-control-allow-methods"]
            refused = await client.http.post("/generate", headers=headers)
            assert refused.status_code == 401
            assert refused.headers.get("access-control-allow-origin") == told, "a page may read its errors"

    test()


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions", "/v1/rerank"])
@pytest.mark.parametrize("field", RESERVED_FIELDS)
@pytest.mark.parametrize("value", ["2.2.2.2", 0, [1], ["h"], "", False])
def test_a_client_cannot_say_where_the_servers_meet(path: str, field: str, value: Any) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            answer = await client.post(path, {**CHAT, "text": "x", "prompt": "x", field: value})
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(f"`{field}` is set by the router alone")
            assert client.pairs[0].prefill.requests == []

    test()


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions", "/v1/rerank"])
@pytest.mark.parametrize("field", HARMFUL_FIELDS)
def test_a_client_cannot_send_what_ends_a_server(path: str, field: str) -> None:
    """Nor in a request of a run, which is sent on as another one."""

    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            bodies: list[dict[str, Any]] = [{**CHAT, "text": "x", "prompt": "x", field: {"id": "x"}}]
            if path == "/generate":
                bodies.append({"text": "x", "run": "r", field: {"id": "x"}})
            for body in bodies:
                answer = await client.post(path, body)
                assert answer.status_code == 400
                assert answer.json()["error"]["message"] == f"`{field}` is not taken here: {HARMFUL_FIELDS[field]}."
            assert (await client.post(path, {**CHAT, field: None})).status_code == 200
            assert [len(fake.requests) for fake in (client.pairs[0].prefill, client.pairs[0].decode)] == [1, 1]

    test()
