"""Who may ask and how answers are marked: API key, request ids, cross-origin requests, reserved fields."""

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from router.endpoints.routes import RouteTable
from router.http.client_request import ClientRequest
from router.request_checks.refused_fields import HARMFUL_FIELDS, RESERVED_FIELDS
from router.server.settings import ServerSettings
from tests.router.support.aio import aio
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
KEY = ServerSettings(api_key="secret")


@pytest.mark.parametrize(
    "given",
    [None, "", "secret", "Bearer", "Bearersecret", "Basic secret", "Bearer secret2", "Bearer se cret", "Bearer \xff"],
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


@pytest.mark.case("8.bearer")
@pytest.mark.parametrize("given", ["bearer secret", "BEARER secret", "Bearer  secret", "bEaReR   secret"])
def test_public_case_bearer_in_any_case(given: str) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair(), server=KEY) as client:
            headers = {"authorization": given}
            assert (await client.http.post("/generate", json={"text": "x"}, headers=headers)).status_code == 200
            assert (await client.http.get("/workers", headers=headers)).status_code == 200

    test()


@pytest.mark.claim("identity-is-not-claimed")
@pytest.mark.parametrize("key", [None, "secret"])
def test_a_client_has_one_name_for_its_limits(key: str | None) -> None:
    """Whatever it says of itself: headers that it makes up, and other ways to write its key, are no new client."""
    keys: set[str] = set()

    @aio
    async def test() -> None:
        async with serving(FakePair(), server=ServerSettings(api_key=key)) as client:
            route = next(each for each in client.routes.all if each.path == "/generate")

            async def handler(request: ClientRequest) -> None:
                keys.add(request.client_key)
                await request.send_json({})

            find = RouteTable([replace(route, handler=handler)]).find
            with mock.patch.object(client.routes, "find", find):
                written = [
                    "Bearer secret",
                    "bearer secret",
                    "Bearer   secret",
                    *([] if key else ["Basic x", "Bearer made-up"]),
                ]
                for each in written:
                    headers = {"authorization": each, "x-moa-client": each}
                    assert (await client.http.post("/generate", headers=headers)).status_code == 200

    test()
    assert len(keys) == 1
    assert key is None or not any(key in each for each in keys), "it is stored, and told to other processes"


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


SDK_HEADERS = "authorization,content-type,x-stainless-arch,x-stainless-os,x-stainless-retry-count,x-stainless-timeout"
PREFLIGHT = {"origin": "http://any.example", "access-control-request-headers": SDK_HEADERS}
DATA = [("POST", path) for path in ("/generate", "/v1/chat/completions", "/v1/completions", "/v1/tokenize")]
DATA += [("GET", path) for path in ("/v1/models", "/v1/models/fake", "/health", "/readiness", "/openapi.json")]
CONTROL = [("POST", "/workers"), ("DELETE", "/workers/x"), ("POST", "/flush_cache"), ("GET", "/health_generate")]
CONTROL += [("GET", path) for path in ("/workers", "/workers/x", "/runs", "/runs/x", "/runs/x/timeline", "/metrics")]
CONTROL += [("GET", path) for path in ("/get_loads", "/server_info", "/get_server_info")]


@pytest.mark.case("4.cors_stainless")
@pytest.mark.parametrize(("method", "path"), DATA)
def test_public_case_pages_may_use_an_sdk_for_data(method: str, path: str) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            asked = await client.http.options(path, headers={**PREFLIGHT, "access-control-request-method": method})
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == "*"
            assert asked.headers["access-control-allow-headers"] == SDK_HEADERS
            assert method in asked.headers["access-control-allow-methods"].split(",")

    test()


@pytest.mark.claim("pages-control-nothing")
@pytest.mark.parametrize("origin", ["http://any.example", "null", "http://127.0.0.1:1"])
@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_pages_control_nothing(method: str, path: str, origin: str) -> None:
    """Not even blindly, with a request that a browser sends without asking first."""

    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            workers = list(client.registry.workers)
            headers = {**PREFLIGHT, "origin": origin, "access-control-request-method": method}
            body = b'{"url": "http://10.0.0.1:1", "worker_type": "decode"}'
            blind = {"origin": origin, "content-type": "text/plain"}
            for answer in (
                await client.http.options(path, headers=headers),
                await client.http.request(method, path, headers=blind, content=body),
            ):
                assert answer.status_code == 403
                assert "access-control-allow-origin" not in answer.headers
                assert f"web pages of {origin!r} may not use " in answer.json()["error"]["message"]
            assert client.registry.workers == workers

    test()


@pytest.mark.parametrize(("method", "path"), [*CONTROL, ("POST", "/generate")])
def test_pages_of_named_origins_may_use_everything(method: str, path: str) -> None:
    @aio
    async def test() -> None:
        async def generate(call: Call) -> None:
            await call.answer({"text": "one"})

        server, pair = ServerSettings(cors_origins=("http://admin.example",)), FakePair()
        pair.prefill.generate = pair.decode.generate = generate
        async with serving(pair, server=server) as client:
            for origin, status in (("http://admin.example", 200), ("http://any.example", 403)):
                headers = {**PREFLIGHT, "origin": origin, "access-control-request-method": method}
                asked = await client.http.options(path, headers=headers)
                assert asked.status_code == (200 if path == "/generate" else status)
                allowed = asked.headers.get("access-control-allow-origin")
                assert allowed == (origin if status == 200 else None)
            answer = await client.http.request(method, path, headers={"origin": "http://admin.example"})
            assert answer.status_code != 403
            assert answer.headers["access-control-allow-origin"] == "http://admin.example"

    test()


@pytest.mark.claim("pages-control-nothing")
@aio
async def test_what_pages_ask_for_is_no_way_to_write_headers() -> None:
    async with serving(FakePair()) as client:
        for asked, told in (
            ("x-a, X-B", "x-a,X-B"),
            ("x-a, b c, d:e, \xe9", "x-a"),
            ("", "content-type,authorization,x-request-id"),
            (",".join(["x"] * 1000), ",".join(["x"] * 100)),
        ):
            names = asked.encode("latin-1")
            headers = [(b"origin", b"o"), (b"access-control-request-method", b"POST")]
            headers += [(b"access-control-request-headers", names)]
            answer = await client.http.options("/generate", headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, told)
        assert (await client.http.options("/nowhere", headers=headers)).status_code == 404


@pytest.mark.claim("bootstrap-is-not-chosen")
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


@pytest.mark.claim("small-requests-kill-no-server")
@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions"])
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
