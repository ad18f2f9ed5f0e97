"""Rights: each path takes a key with its right, and none without it."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from router.access.client import ALL_RIGHTS, Right
from router.endpoints.routes import Route
from router.server.settings import ServerSettings
from tests.router.support.aio import aio
from tests.router.support.fakes import FakePair
from tests.router.support.keys import bearer, key_of, with_keys
from tests.router.support.serving import Serving, serving

# Written out: what a path needs is a decision, and this is where it is seen to change.
PUBLIC = {"/health", "/liveness", "/readiness", "/openapi.json"}
NEEDS: dict[Right | None, set[str]] = {
    None: PUBLIC,
    "data": {
        "/generate", "/v1/chat/completions", "/v1/completions", "/rerank", "/v1/rerank", "/v1/tokenize",
        "/v1/detokenize", "/tokenize", "/detokenize", "/v1/embeddings", "/encode", "/v1/classify", "/classify",
        "/v1/score", "/score", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/responses/{id}",
        "/v1/responses/{id}/cancel", "/parse/reasoning", "/parse/function_call", "/v1/tokenizers",
        "/v1/tokenizers/{id}", "/v1/models", "/v1/models/{id}", "/get_model_info", "/model_info", "/server_info",
        "/get_server_info",
    },
    "runs": {"/runs", "/runs/{id}", "/runs/{id}/timeline", "/runs/{id}/chrome-trace"},
    "admin": {
        "/workers", "/workers/{id}", "/flush_cache", "/get_loads", "/health_generate", "/metrics", "/engine_metrics",
        "/start_profile", "/stop_profile", "/drain",
    },
}  # fmt: skip
OPEN_WITH_ONE_KEY = {"/v1/models", "/v1/models/{id}", "/get_model_info", "/model_info", "/server_info"}
OPEN_WITH_ONE_KEY |= {"/get_server_info", "/metrics"}
CLIENTS = {"data": ["data"], "runs": ["runs"], "admin": ["admin"], "both": ["data", "runs"]}


def offered(client: Serving) -> list[Route]:
    return [route for route in client.routes.all if not route.summary.startswith("Not offered")]


async def ask(client: Serving, route: Route, name: str | None) -> tuple[int, str]:
    path = re.sub(r"{\w+}", "nothing", route.path)
    answer = await client.http.request(route.method, path, headers=bearer(name) if name else {}, content=b"{}")
    return answer.status_code, answer.text


@pytest.mark.claim("rights-on-every-path")
@aio
async def test_every_path_has_the_right_that_was_decided(tmp_path: Path) -> None:
    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS)) as client:
        found: dict[Right | None, set[str]] = {}
        for route in offered(client):
            found.setdefault(route.right, set()).add(route.path)
        assert found == NEEDS
        refused = [route for route in client.routes.all if route not in offered(client)]
        assert {route.right for route in refused} == {None}


@pytest.mark.claim("rights-on-every-path")
@aio
async def test_every_right_on_every_path(tmp_path: Path) -> None:
    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS)) as client:
        for route in offered(client):
            for name, rights in CLIENTS.items():
                status, text = await ask(client, route, name)
                if route.right is None or route.right in rights or "admin" in rights:
                    assert status not in (401, 403), (route.path, name, text)
                else:
                    assert status == 403, (route.path, name, text)
                    assert f"the key '{name}' lacks the right `{route.right}`, which this path needs" in text
                    assert key_of(name) not in text
            for nobody in (None, "nobody"):
                status, text = await ask(client, route, nobody)
                assert (status == 401) is (route.right is not None), (route.path, text)
                assert key_of("nobody") not in text


@aio
async def test_one_key_is_as_it_was() -> None:
    """It opens everything; metrics, models and their server are told without it."""
    async with serving(FakePair(), server=ServerSettings(api_key=key_of("admin"))) as client:
        for route in offered(client):
            is_open = route.path in PUBLIC | OPEN_WITH_ONE_KEY
            assert (await ask(client, route, "admin"))[0] not in (401, 403), route.path
            assert ((await ask(client, route, None))[0] == 401) is not is_open, route.path
            assert ((await ask(client, route, "data"))[0] == 401) is not is_open, route.path


@aio
async def test_without_keys_everything_is_open() -> None:
    async with serving(FakePair()) as client:
        for route in offered(client):
            for name in (None, "made-up"):
                assert (await ask(client, route, name))[0] not in (401, 403), route.path


@aio
async def test_the_flag_and_the_file_together(tmp_path: Path) -> None:
    """The workers get the flag's key, whoever asks."""
    pair = FakePair()
    server = with_keys(tmp_path, CLIENTS, api_key=key_of("flag"))
    async with serving(pair, server=server) as client:
        for name in ("flag", "data", "admin"):
            answer = await client.http.post("/generate", json={"text": "x"}, headers=bearer(name))
            assert answer.status_code == 200, name
        assert (await client.http.get("/workers", headers=bearer("flag"))).status_code == 200
        calls = [*pair.prefill.server.calls, *pair.decode.server.calls]
        assert {call.headers["authorization"] for call in calls} == {f"Bearer {key_of('flag')}"}


@pytest.mark.claim("workers-hear-no-client-key")
@aio
async def test_what_workers_hear_of_clients(tmp_path: Path) -> None:
    """Neither a key nor a name nor a right."""
    pair = FakePair()
    names = {"team-qqq": ["data"]}
    async with serving(pair, server=with_keys(tmp_path, names)) as client:
        headers = {**bearer("team-qqq"), "x-moa-namespace": "team-qqq", "x-moa-rights": "admin"}
        body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
        for path, more in (
            ("/v1/chat/completions", {}),
            ("/v1/chat/completions", {"stream": True}),
            ("/v1/chat/completions", {"run": "r", "agent": "a"}),
            ("/v1/tokenize", {"prompt": "x"}),
        ):
            await client.http.post(path, json={**body, **more}, headers=headers)
        await client.settled()
        calls = [*pair.prefill.server.calls, *pair.decode.server.calls]
        assert len(calls) > 6
        for call in calls:
            assert "authorization" not in call.headers
            heard = f"{call.path} {call.headers} {call.body!r}"
            for word in ("zzz", "team-qqq", "x-moa-", "admin"):
                assert word not in heard


@aio
async def test_health_names_models_to_those_who_may_list_them(tmp_path: Path) -> None:
    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS)) as client:
        for name in ("data", "both", "admin"):
            assert (await client.http.get("/health", headers=bearer(name))).json()["models"] == ["fake"]
        for headers in ({}, bearer("wrong"), bearer("runs")):
            answer = await client.http.get("/health", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    for server in (ServerSettings(), ServerSettings(api_key=key_of("flag"))):
        async with serving(FakePair(), server=server) as client:
            assert (await client.http.get("/health")).json()["models"] == ["fake"], "as `/v1/models`"


@pytest.mark.claim("keys-are-told-nowhere")
@aio
async def test_keys_are_told_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS, api_key=key_of("flag"))) as client:
        for name in (*CLIENTS, "flag", "wrong"):
            for route in offered(client):
                assert "zzz" not in (await ask(client, route, name))[1], route.path
        answer = await client.http.get("/server_info", headers=bearer("admin"))
        assert "workers" in answer.json()
        assert "workers" not in (await client.http.get("/server_info", headers=bearer("data"))).json()
        assert "zzz" not in repr(client.limits) + repr(client.components.clients.keys)
    assert "router.access" in {record.name for record in caplog.records}
    # httpx, which is the client here, logs no headers either.
    assert "zzz" not in caplog.text


@pytest.mark.claim("processes-are-private")
@aio
async def test_requests_between_processes_need_their_own_socket(tmp_path: Path) -> None:
    """A client that writes the headers of another process is who its key says."""
    forged = {"x-moa-namespace": "admin", "x-moa-rights": "admin,data,runs", "x-moa-client": "key:admin"}
    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS)) as client:
        for path in ("/workers", "/runs", "/metrics"):
            assert (await client.http.get(path, headers=forged)).status_code == 401
            assert (await client.http.get(path, headers={**forged, **bearer("data")})).status_code == 403
        assert "workers" not in (await client.http.get("/server_info", headers={**forged, **bearer("data")})).json()


@aio
async def test_the_port_for_metrics_asks_for_no_key(tmp_path: Path) -> None:
    """The main port does, where there is a file."""

    async def scrape(client: Serving, server: tuple[str, int | None] | None) -> int:
        told: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            told.append(message)

        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "server": server}
        await client.app(scope, receive, send)
        return int(told[0]["status"])

    async with serving(FakePair(), server=with_keys(tmp_path, CLIENTS, prometheus_port=29999)) as client:
        assert await scrape(client, ("127.0.0.1", 29999)) == 200
        assert await scrape(client, ("127.0.0.1", 30000)) == 401
        assert await scrape(client, ("127.0.0.1", None)) == 401
        assert await scrape(client, None) == 401


@pytest.mark.claim("rights-on-every-path")
def test_all_rights_are_tested() -> None:
    assert NEEDS.keys() - {None} == ALL_RIGHTS
