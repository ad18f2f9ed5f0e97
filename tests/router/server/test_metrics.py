"""Metrics, the dashboard over them, the access log, the OpenAPI document."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

import router
from router.dispatch.retries import RetrySettings
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.server.processes.sockets import listen_on_other_ports
from router.server.settings import ServerSettings
from tests.router.moa.test_run_failures import OpenAIServer, write_tree
from tests.router.moa.test_tree_runs import Agents
from tests.router.server.test_peers import run_of
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakePair, chat_event, whole
from tests.router.support.processes import free_port
from tests.router.support.serving import Serving, serving, together

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
FAST = RetrySettings(initial_backoff_ms=1, max_backoff_ms=5)


async def fail_once(pair: FakePair) -> None:
    """Let decode fail the next request and do well from then on."""
    well = pair.decode.generate

    async def failing(call: Call) -> None:
        pair.decode.generate = well
        await call.send(whole(b"{}", 500))

    pair.decode.generate = failing


async def scraped(client: Serving) -> dict[str, list[Any]]:
    """Samples by their name, when all requests are over: they are counted after their answers."""
    await until(lambda: not client.requests, "all answers are over")
    answer = await client.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples_of(answer.text)


def samples_of(text: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(samples: dict[str, list[Any]], name: str, **labels: str) -> float:
    return sum(float(s.value) for s in samples.get(name, []) if labels.items() <= s.labels.items())


@aio
async def test_what_is_counted() -> None:
    async with serving(FakePair(), retries=FAST) as client:
        await fail_once(client.pairs[0])
        for stream in (False, True):
            await client.post("/v1/chat/completions", {**CHAT, "stream": stream})
        await client.post("/v1/chat/completions", {**CHAT, "model": "none"})
        await client.http.get("/made/up")
        await client.http.get("/workers/made-up")
        await client.settled()
        samples = await scraped(client)
        assert value(samples, "smg_http_requests_total", method="POST", path="/v1/chat/completions") == 3
        assert value(samples, "smg_http_requests_total", path="other") == 1
        assert value(samples, "smg_http_requests_total", path="/workers/{id}") == 1
        assert value(samples, "smg_http_responses_total", status_code="404", error_code="not_found_error") == 3
        assert value(samples, "smg_router_requests_total", endpoint="chat", streaming="true", model="fake") == 1
        assert value(samples, "smg_router_requests_total", model="none") == 0, "no series for made-up models"
        assert value(samples, "smg_router_ttft_seconds_count", model="fake") == 1
        assert value(samples, "smg_worker_retries_total", worker_type="decode", endpoint="chat") == 1
        assert value(samples, "smg_worker_retry_backoff_seconds_count", attempt="1") == 1
        assert value(samples, "smg_worker_errors_total", worker_type="decode", error_type="status_500") == 1
        assert value(samples, "smg_worker_selection_total", worker_type="prefill", policy="cache_aware") == 3
        decode = client.pairs[0].decode.url
        assert value(samples, "smg_worker_cb_outcomes_total", worker=decode, outcome="failure") == 1
        assert value(samples, "smg_worker_cb_outcomes_total", worker=decode, outcome="success") == 2
        assert value(samples, "smg_worker_health", worker=decode) == 1
        assert value(samples, "smg_worker_requests_active") == 0
        assert value(samples, "smg_http_connections_active") == 1, "this very request"
        assert value(samples, "smg_http_inflight_request_age_count", gt="0", le="30") == 1


@aio
async def test_a_plain_server_is_called_regular(tmp_path: Path) -> None:
    plain = OpenAIServer()
    async with plain.server, serving(plain=(plain.server.url,), trees=write_tree(tmp_path)) as client:
        answer = await client.post("/v1/chat/completions", {**CHAT, "model": "other", "stream": True})
        assert answer.status_code == 200
        samples = await scraped(client)
        assert value(samples, "smg_router_requests_total", backend_type="regular", model="other") == 1
        assert value(samples, "smg_router_requests_total", backend_type="pd") == 0
        assert value(samples, "smg_router_requests_total", streaming="true") == 1
        assert value(samples, "smg_router_ttft_seconds_count", backend_type="regular") == 1
        assert value(samples, "smg_worker_pool_size", worker_type="regular", model="other") == 1
        assert value(samples, "smg_worker_health_checks_total", worker_type="regular", result="success") >= 1
        assert value(samples, "smg_worker_requests_total", worker=plain.server.url, model="other") == 1


@aio
async def test_a_tree_and_a_named_run_have_a_backend_of_their_own(tmp_path: Path) -> None:
    async with serving(Agents().pair, trees=write_tree(tmp_path)) as client:
        for body in ({"model": "moa"}, {"model": "fake", "run": "r", "agent": "a"}):
            answer = await client.post("/v1/chat/completions", {**CHAT, **body, "stream": True})
            assert answer.status_code == 200
        samples = await scraped(client)
        for model in ("moa", "fake"):
            labels = {"backend_type": "moa", "model": model}
            assert value(samples, "smg_router_requests_total", streaming="true", **labels) == 1
            assert value(samples, "smg_router_ttft_seconds_count", **labels) == 1
        assert value(samples, "smg_pd_ttft_seconds_count", model="fake", runtime="sglang") == 7, "each agent's"


@aio
async def test_a_named_run_in_another_process_is_counted_where_its_client_is(tmp_path: Path) -> None:
    async with together(Agents().pair, folder=tmp_path) as routers:
        body = {**CHAT, "run": run_of(1), "agent": "a", "stream": True}
        assert (await routers[0].post("/v1/chat/completions", body)).status_code == 200
        await until(lambda: not any(router.requests for router in routers), "all answers are over")
        samples = samples_of((await routers[0].http.get("/metrics")).text)
        assert value(samples, "smg_router_requests_total", backend_type="moa", streaming="true", model="fake") == 1
        assert value(samples, "smg_router_ttft_seconds_count", model="fake") == 1


@aio
async def test_errors_by_their_kind() -> None:
    async def breaks(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        call.drop()

    pair = FakePair()
    async with serving(pair) as client:
        await client.post("/v1/chat/completions", {**CHAT, "model": "none"})
        await client.post("/v1/chat/completions", {**CHAT, "n": 0})
        pair.decode.generate = breaks
        answer = await client.post("/v1/chat/completions", {**CHAT, "stream": True})
        assert (answer.status_code, "upstream_error" in answer.text) == (200, True)
        samples = await scraped(client)
        kinds = {"no_workers": "unknown", "validation_error": "unknown", "backend_error": "fake"}
        for kind, model in kinds.items():
            assert value(samples, "smg_router_request_errors_total", error_type=kind, model=model) == 1
        assert value(samples, "smg_router_request_errors_total") == 3
        told = {"path": "/v1/chat/completions", "status_code": "200", "error_code": "upstream_error"}
        assert value(samples, "smg_http_responses_total", **told) == 1


@aio
async def test_a_request_in_flight_is_seen() -> None:
    async def decode(call: Call) -> None:
        await call.gone()

    pair = FakePair()
    pair.decode.generate = decode
    async with serving(pair) as client:
        asking = asyncio.create_task(client.post("/generate", {"text": "x"}))
        await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
        samples = samples_of((await client.http.get("/metrics")).text)
        assert value(samples, "smg_worker_requests_active", worker=pair.decode.url) == 1
        assert value(samples, "smg_http_connections_active") == 2
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await client.settled()


@aio
async def test_every_panel_of_the_dashboard_shows_something_that_is_exposed() -> None:
    board = json.loads((Path(router.__file__).parent / "observability" / "grafana.json").read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= board.keys()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    spots = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(spots)) == len(spots), "no panel lies on another"
    async with serving(FakePair()) as client:
        text = (await client.http.get("/metrics")).text
    exposed = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    exposed |= {f"{name}{suffix}" for name in exposed for suffix in ("_bucket", "_total", "_count", "_sum")}
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            names = set(re.findall(r"\b(?:smg|moa)_\w+", target["expr"]))
            assert names, target["expr"]
            assert names <= exposed, target["expr"]
            assert target["expr"].count("(") == target["expr"].count(")")


@aio
async def test_a_port_for_metrics_only() -> None:
    async with serving(FakePair()) as client:
        settings = ServerSettings(prometheus_port=client.port)
        object.__setattr__(client.components.settings, "server", settings)
        assert (await client.http.get("/metrics")).status_code == 200
        answer = await client.post("/generate", {"text": "x"})
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "this port is for /metrics only.")


@aio
async def test_a_port_for_health_only() -> None:
    async with serving(FakePair()) as client:
        settings = ServerSettings(health_check_port=client.port, api_key="secret")
        object.__setattr__(client.components.settings, "server", settings)
        for path in ("/liveness", "/readiness", "/health"):
            assert (await client.http.get(path)).status_code == 200, path
        for path in ("/metrics", "/workers"):
            answer = await client.http.get(path)
            told = "this port is for /liveness, /readiness, /health only."
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, told), path
        object.__setattr__(client.components.settings, "server", ServerSettings(health_check_port=client.port + 1))
        assert (await client.http.get("/metrics")).status_code == 200


def test_there_is_a_socket_for_each_port_of_its_own() -> None:
    ports = free_port(), free_port()
    server = ServerSettings(
        host="127.0.0.1", prometheus_host="127.0.0.1", prometheus_port=ports[0], health_check_port=ports[1]
    )
    sockets = listen_on_other_ports(server)
    try:
        assert tuple(each.getsockname()[1] for each in sockets) == ports
    finally:
        for each in sockets:
            each.close()
    assert listen_on_other_ports(ServerSettings()) == []


@contextmanager
def access_log() -> Iterator[list[dict[str, Any]]]:
    """The lines of the access log while the block lasts."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(orjson.loads(record.getMessage()))

    logger, keep = logging.getLogger("router.access"), Keep()
    logger.addHandler(keep)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(keep)
        logger.setLevel(logging.NOTSET)


@aio
async def test_the_access_log() -> None:
    with access_log() as lines:
        async with serving(FakePair(), retries=FAST) as client:
            await fail_once(client.pairs[0])
            body = {**CHAT, "stream": True}
            await client.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
            await until(lambda: len(lines) == 1, "the first is logged")
            await client.http.get("/made/up")
            await until(lambda: len(lines) == 2, "both are logged")
            pair = client.pairs[0]
    first, second = lines
    assert first["id"] == "mine"
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (first["model"], first["prefill"], first["decode"]) == ("fake", pair.prefill.url, pair.decode.url)
    assert first["attempts"] == 2
    assert 0 < first["ttft"] <= first["seconds"]
    assert datetime.fromisoformat(first["time"]).tzinfo is UTC
    assert (first["stream"], "error" in first, "incomplete" in first) == (True, False, False)
    assert (second["status"], second["error"], "model" in second) == (404, "not_found_error", False)


@aio
async def test_the_access_log_names_the_clients_trace() -> None:
    """Also where the router sends no spans; what is no trace is left out."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    with access_log() as lines:
        async with serving(FakePair()) as client:
            for given in (f"00-{trace}-b7ad6b7169203331-01", "00-not-a-trace"):
                await client.http.post("/generate", json={"text": "x"}, headers={"traceparent": given})
            await until(lambda: len(lines) == 2, "both are logged")
    assert [(line.get("trace_id"), line.get("span_id")) for line in lines] == [(trace, None), (None, None)]


@aio
async def test_the_access_log_of_a_client_that_left() -> None:
    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await call.gone()

    pair = FakePair()
    pair.decode.generate = decode
    with access_log() as lines:
        async with serving(pair) as client:
            async with client.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                await anext(answer.aiter_lines())
            await until(lambda: bool(lines), "it is logged")
    assert {"status": 200, "stream": True, "incomplete": True}.items() <= lines[0].items()


@aio
async def test_the_access_log_of_a_plain_server() -> None:
    plain = OpenAIServer()
    with access_log() as lines:
        async with plain.server, serving(plain=(plain.server.url,)) as client:
            assert (await client.post("/v1/chat/completions", {**CHAT, "model": "other"})).status_code == 200
            await until(lambda: bool(lines), "it is logged")
    assert {"model": "other", "worker": plain.server.url, "attempts": 1}.items() <= lines[0].items()


@aio
async def test_the_openapi_document_has_every_path() -> None:
    async with serving(FakePair()) as client:
        told = (await client.http.get("/openapi.json")).json()
        assert told["openapi"].startswith("3.1")
        routes = client.routes.all
        refused = {f"{r.method} {r.path}" for r in routes if r.summary.startswith("Not offered")}
        assert refused == PATHS_NOT_OFFERED.keys() | {"GET /ha/status"}
        offered = [r for r in routes if r.path != "/openapi.json" and f"{r.method} {r.path}" not in refused]
        assert {(r.path, r.method.lower()) for r in offered} == {
            (path, method) for path, methods in told["paths"].items() for method in methods
        }
        operations = [one for methods in told["paths"].values() for one in methods.values()]
        assert len({one["operationId"] for one in operations}) == len(operations)
        for path, methods in told["paths"].items():
            for one in methods.values():
                assert [p["name"] for p in one.get("parameters", [])] == re.findall(r"{(\w+)}", path)
                assert {"400", "401", "429", "503"} <= one["responses"].keys()


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/tokenizers", "/wasm", "/ha/shutdown"])
def test_paths_that_are_not_offered_say_why(path: str) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            answer = await client.post(path, {"model": "fake", "input": "x"})
            assert answer.status_code == 501
            assert answer.json()["error"]["message"].startswith(f"{path} is not offered: ")

    test()
