"""Spans as an OpenTelemetry collector gets them: real gRPC, real exporter; fake pairs, for the faults."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest

from router.cli.parser import parse
from router.dispatch import exchange
from router.http.client_request import ClientRequest
from router.http.sse import DONE, format_event
from router.observability.tracing import exporter as export
from router.observability.tracing import start_tracing
from router.observability.tracing.response_observer import MAX_PARSED_BYTES, ResponseObserver
from router.observability.tracing.settings import TraceSettings
from tests.router.cli.test_main import PAIR
from tests.router.forwarding.test_retries import FAST, failing
from tests.router.moa.test_run_failures import FakeJudge, OpenAIServer, write_tree
from tests.router.moa.test_tree_runs import CHAT as MOA_CHAT
from tests.router.moa.test_tree_runs import Agents, hangs, small_tree
from tests.router.observability.collector import Collector, Span, collecting
from tests.router.server.test_metrics import access_log
from tests.router.server.test_peers import run_of
from tests.router.support.aio import aio, run, until, within
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call, FakePair, Handler, chat_event, native_event, whole
from tests.router.support.plain import PlainServer
from tests.router.support.processes import ROOT
from tests.router.support.serving import serving, together

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
THEIRS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b,c=d"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(export, "FLUSH_TIMEOUT", 60.0)  # no span is lost on a slow machine
    with collecting() as collector:
        yield collector


def legs(collector: Collector, parent: Span) -> list[Span]:
    """The requests to workers in a span's name."""
    return [span for span in collector.under(parent) if span.kind == "CLIENT"]


# ---- one request


@aio
async def test_a_request_and_its_two_legs(collector: Collector) -> None:
    pair = FakePair()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}
        await call.answer({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})

    pair.decode.generate = decode
    with access_log() as lines:
        async with serving(pair, trace=collector.settings) as router:
            answer = await router.post(PATH, CHAT)
            assert (await router.http.get("/workers")).status_code == 200
    assert len(collector.spans) == 3, "nothing but generation is traced"
    request = collector.one(f"POST {PATH}")
    ids = {line["path"]: (line.get("trace_id"), line.get("span_id")) for line in lines}
    assert (ids[PATH], ids["/workers"]) == ((request.trace, request.id), (None, None))
    assert (request.kind, request.parent, request.failed, request.events) == ("SERVER", "", False, [])
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": PATH,
        "url.path": PATH,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": router.port,
        "user_agent.original": answer.request.headers["user-agent"],
        "http.response.header.x-request-id": [answer.headers["x-request-id"]],
        "http.response.status_code": 200,
        "moa.attempts": 1,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "fake",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    assert [(leg.name, leg.failed) for leg in legs(collector, request)] == [
        (f"prefill {PATH}", False),
        (f"decode {PATH}", False),
    ]
    for leg, worker in zip(legs(collector, request), (pair.prefill, pair.decode), strict=True):
        assert leg.attributes == {
            "http.request.method": "POST",
            "url.full": worker.url + PATH,
            "server.address": "127.0.0.1",
            "server.port": worker.server.port,
            "http.response.status_code": 200,
            "moa.worker.role": worker.role,
            "gen_ai.request.model": "fake",
        }
        assert leg.carried_by(worker.requests[0])
        assert "tracestate" not in worker.requests[0].headers
        assert request.start <= leg.start <= leg.end <= request.end
    assert collector.resources[0]["service.name"] == "faster-moa-router"


@aio
async def test_a_request_that_another_process_answers_is_one_trace(collector: Collector, tmp_path: Path) -> None:
    body = {**CHAT, "run": run_of(1)}
    async with together(Agents().pair, folder=tmp_path, trace=collector.settings) as (router, _):
        for headers in ({}, THEIRS):
            assert (await router.http.post(PATH, json=body, headers=headers)).status_code == 200
    for trace in {span.trace for span in collector.spans}:
        first, second = sorted(
            (span for span in collector.spans if span.trace == trace and span.kind == "SERVER"),
            key=lambda span: span.start,
        )
        assert second.parent == first.id
        assert first.parent == (THEIRS["traceparent"][36:52] if trace in THEIRS["traceparent"] else "")
        assert second.state == (THEIRS["tracestate"] if first.parent else "")
    assert len([span for span in collector.spans if span.kind == "SERVER"]) == 4


@aio
async def test_a_clients_trace_goes_on_to_both_workers(collector: Collector) -> None:
    async with serving(FakePair(), trace=collector.settings) as router:
        await router.http.post("/generate", json={"text": "x"}, headers=THEIRS)
        for number, broken in enumerate(("00-" + "0" * 32 + "-b7ad6b7169203331-01", "junk"), 1):
            await router.http.post("/generate", json={"text": "x"}, headers={"traceparent": broken})
            assert router.pairs[0].decode.requests[number].headers["traceparent"][3:35] not in THEIRS["traceparent"]
    request, *others = (span for span in collector.spans if span.kind == "SERVER")
    assert (request.trace, request.parent) == (THEIRS["traceparent"][3:35], THEIRS["traceparent"][36:52])
    assert request.state == THEIRS["tracestate"]
    assert [span.parent for span in others] == ["", ""]
    for leg, worker in zip(legs(collector, request), ("prefill", "decode"), strict=True):
        (call, *_) = getattr(router.pairs[0], worker).requests
        assert leg.carried_by(call)
        assert call.headers["tracestate"] == THEIRS["tracestate"]


@aio
async def test_what_a_client_does_not_want_sampled_is_not_sent(collector: Collector) -> None:
    async with serving(FakePair(), trace=collector.settings) as router:
        headers = {"traceparent": THEIRS["traceparent"][:-2] + "00"}
        assert (await router.http.post("/generate", json={"text": "x"}, headers=headers)).status_code == 200
        sent = router.pairs[0].prefill.requests[0].headers["traceparent"]
        assert (sent[:36], sent[-3:]) == (headers["traceparent"][:36], "-00")
    assert collector.spans == []


@aio
async def test_a_stream_has_its_first_token(collector: Collector) -> None:
    release = asyncio.Event()
    pair = FakePair()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await release.wait()
        await call.event(chat_event("two", "length"))
        await call.event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
        await call.done()

    pair.decode.generate = decode
    async with serving(pair, trace=collector.settings) as router:
        answer = await router.http.send(router.http.build_request("POST", PATH, json=STREAM), stream=True)
        pieces = answer.aiter_bytes()
        await anext(pieces)
        release.set()
        assert b"[DONE]" in b"".join([piece async for piece in pieces])
    request = collector.one(f"POST {PATH}")
    ((name, at, _),) = request.events
    assert (name, request.start < at < request.end) == ("moa.first_token", True)
    assert request.attributes["gen_ai.request.stream"] is True
    assert request.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert request.attributes["gen_ai.usage.output_tokens"] == 2


# ---- failures


@aio
async def test_retries_are_more_children(collector: Collector) -> None:
    pair = FakePair()
    pair.decode.generate = failing(pair, 2, 503)
    async with serving(pair, retries=FAST, trace=collector.settings) as router:
        assert (await router.post(PATH, CHAT)).status_code == 200
    request = collector.one(f"POST {PATH}")
    assert (request.failed, request.attributes["moa.attempts"]) == (False, 3)
    decodes = [leg for leg in legs(collector, request) if leg.attributes["moa.worker.role"] == "decode"]
    assert all(leg.carried_by(call) for leg, call in zip(decodes, pair.decode.requests, strict=True))
    assert [leg.attributes.get("http.request.resend_count") for leg in decodes] == [None, 1, 2]
    assert [(leg.failed, leg.attributes.get("error.type")) for leg in decodes] == [
        (True, "503"),
        (True, "503"),
        (False, None),
    ]
    assert len(legs(collector, request)) == 6


async def breaks(call: Call) -> None:
    call.drop()


async def refuses(call: Call) -> None:
    await call.send(whole(b'{"error": "no room left"}', 503))


async def breaks_in_the_middle(call: Call) -> None:
    await call.stream(chat_event("one "))
    await asyncio.sleep(0.02)
    call.drop()


@pytest.mark.parametrize(
    ("role", "how", "words"),
    [
        ("prefill", breaks, "closed the connection without an answer"),
        ("prefill", refuses, "refused the request with 503: no room left"),
        ("decode", breaks, "closed the connection without an answer"),
        ("decode", breaks_in_the_middle, "closed the connection before its answer was whole"),
    ],
)
def test_a_leg_that_fails_and_the_other(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, role: str, how: Handler, words: str
) -> None:
    monkeypatch.setattr(exchange, "DECODE_REFUSAL_TIMEOUT", 0.05)

    async def test() -> None:
        pair = FakePair()

        async def waits(call: Call) -> None:
            await call.gone()

        pair.prefill.generate = how if role == "prefill" else waits
        pair.decode.generate = how if role == "decode" else waits
        async with serving(pair, trace=collector.settings) as router:
            await router.post(PATH, STREAM)
        request = collector.one(f"POST {PATH}")
        assert (request.failed, request.attributes["error.type"]) == (True, "upstream_error")
        for leg in legs(collector, request):
            at_fault = leg.attributes["moa.worker.role"] == role
            assert (leg.failed, leg.attributes.get("error.type")) == (at_fault, "upstream_error" if at_fault else None)
            assert leg.attributes.get("moa.aborted", False) is not at_fault
            assert words in leg.words or not at_fault

    run(test)


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_leaves(collector: Collector, begun: bool) -> None:
    async def test() -> None:
        pair = FakePair()

        async def decode(call: Call) -> None:
            pair.room(call).set()
            if begun:
                await call.stream(chat_event("one "))
            await call.gone()

        pair.decode.generate = decode
        async with serving(pair, trace=collector.settings) as router:
            request = router.http.build_request("POST", PATH, json=STREAM)
            asking = asyncio.create_task(router.http.send(request, stream=True))
            await until(lambda: bool(pair.decode.requests), "decode is asked")
            if begun:
                await (await asking).aclose()
            else:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            await router.settled()
        span = collector.one(f"POST {PATH}")
        assert (span.failed, span.attributes["error.type"], span.words) == (True, "client_gone", "the client left.")
        assert span.attributes["http.response.status_code"] == (200 if begun else 499)
        decode_leg = legs(collector, span)[1]
        assert (decode_leg.failed, decode_leg.attributes["moa.aborted"]) == (False, True)

    run(test)


@aio
async def test_errors_of_the_router_and_of_the_client(collector: Collector) -> None:
    pair = FakePair()
    async with serving(pair, trace=collector.settings) as router:
        await router.http.post("/v1/completions", content=b"{")
        for worker in router.registry.workers:
            worker.health.healthy = False
        await router.post("/generate", {"text": "x"})
        assert (await router.http.get("/v1/nowhere")).status_code == 404
    wrong, unserved = collector.one("POST /v1/completions"), collector.one("POST /generate")
    assert (wrong.attributes["http.response.status_code"], wrong.failed) == (400, False)
    assert (unserved.attributes["http.response.status_code"], unserved.failed) == (503, True)
    assert unserved.attributes["error.type"] == "service_unavailable"
    assert len(collector.spans) == 2


# ---- trees


@aio
async def test_a_run_with_an_early_exit(collector: Collector, tmp_path: Path) -> None:
    agents = Agents()
    agents.answer["p4"] = hangs
    tree = small_tree()["trees"][0]
    tree["layers"][0]["clusters"][0]["agents"].append({"name": "p4", "role": "p4", "max_tokens": 5})
    trees = write_tree(tmp_path, arm="exit", layers=tree["layers"])
    async with serving(agents.pair, trees=trees, judge=FakeJudge(), trace=collector.settings) as router:
        answer = await router.post(PATH, MOA_CHAT)
        told = answer.json()
    request = collector.one(f"POST {PATH}")
    spans = {span.attributes["gen_ai.agent.name"]: span for span in collector.under(request)}
    assert spans.keys() == {agent["agent"] for agent in told["moa"]["agents"]}
    for agent in told["moa"]["agents"]:
        span = spans[agent["agent"]]
        expected = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.request.model": "fake",
            "moa.run": told["moa"]["run"],
            "moa.cluster": agent["cluster"],
            "moa.layer": agent["layer"],
            "moa.reads": list(agent["reads"]),
            "moa.state": agent["state"],
            "moa.attempts": 1,
            "moa.backend": "pair",
        }
        assert expected.items() <= span.attributes.items()
        assert (span.name, span.kind, span.failed) == (f"invoke_agent {agent['agent']}", "INTERNAL", False)
        assert [leg.name for leg in legs(collector, span)] == ["prefill /generate", "decode /generate"]
        *_, call = (call for call in agents.pair.decode.requests if Agents.name(call) == agent["agent"])
        assert legs(collector, span)[1].carried_by(call)
        began = round(told["moa"]["created"] * 1e9)
        assert abs(span.end - began - agent["end"] * 1e9) < 2e6, "its times are the trace's"
        if agent["state"] == "done":
            assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (
                agent["prompt_tokens"],
                agent["completion_tokens"],
            )
            assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]
            names = [name for name, *_ in span.events if name != "moa.segment"]
            assert names == ["moa.sent", "moa.first_token"]
    assert (spans["p4"].attributes["moa.state"], spans["p4"].attributes["moa.early_exit"]) == ("aborted", True)
    assert "moa.early_exit" not in spans["p1"].attributes
    assert all(leg.attributes["moa.aborted"] for leg in legs(collector, spans["p4"])[1:])
    decisions = request.named("moa.decision")
    assert [each["moa.exit"] for each in decisions] == [each["exit"] for each in told["moa"]["decisions"]]
    numbers = {"moa.C": 0.5, "moa.P": 0.7, "moa.B": 1.0, "moa.Q": 1.0, "moa.u": told["moa"]["decisions"][0]["u"]}
    assert numbers.items() <= decisions[0].items()
    assert (decisions[0]["moa.cluster"], sorted(decisions[0]["moa.answers"])) == ("c1", ["p1", "p2"])
    assert {"moa.tree": "moa", "moa.arm": "exit", "gen_ai.request.model": "moa"}.items() <= request.attributes.items()
    assert request.attributes["gen_ai.usage.output_tokens"] == told["usage"]["completion_tokens"]
    assert request.attributes["gen_ai.response.finish_reasons"] == ["stop"]


@aio
async def test_segments_join_the_agent_they_are_for(collector: Collector, tmp_path: Path) -> None:
    agents = Agents()

    async def slow(call: Call) -> None:
        said = "word " * 40
        await call.stream(native_event(said))
        decode = router.registry.workers[1]
        await until(lambda: "agg2" in agents.asked and decode.load.requests == 1, "a segment is there")
        await call.event(native_event(said + "end", "stop", (10, 41)))
        await call.done()

    agents.answer["p3"] = slow
    async with serving(agents.pair, trees=write_tree(tmp_path, arm="splice"), trace=collector.settings) as router:
        told = (await within(10, router.post(PATH, {**MOA_CHAT, "stream": False}))).json()
    reader = collector.one("invoke_agent agg2")
    (trace,) = (agent for agent in told["moa"]["agents"] if agent["agent"] == "agg2")
    segments = reader.named("moa.segment")
    assert [each["moa.segment.tokens"] for each in segments] == [tokens for _, _, tokens in trace["segments"]]
    assert len(segments) == reader.attributes["moa.speculation.segments"] >= 1
    calls = [call for call in agents.pair.prefill.requests if Agents.name(call) == "agg2"]
    assert len(calls) > len(segments)
    assert all(reader.carried_by(call) for call in calls[:-1])
    assert [leg.carried_by(calls[-1]) for leg in legs(collector, reader)] == [True, False]


@aio
async def test_an_agent_that_failed_ends_its_run(collector: Collector, tmp_path: Path) -> None:
    agents = Agents()
    agents.answer["p3"] = refuses
    async with serving(agents.pair, trees=write_tree(tmp_path, retries=1), trace=collector.settings) as router:
        assert (await router.post(PATH, MOA_CHAT)).status_code == 502
    agent = collector.one("invoke_agent p3")
    assert (agent.failed, agent.attributes["moa.state"], agent.attributes["moa.attempts"]) == (True, "failed", 2)
    assert "no room left" in agent.words
    assert [leg.attributes.get("http.request.resend_count") for leg in legs(collector, agent)] == [None, None, 1, 1]
    assert collector.one("invoke_agent agg2").failed
    assert collector.one("invoke_agent agg1").attributes["moa.state"] in {"done", "aborted", "skipped"}
    assert collector.one(f"POST {PATH}").attributes["error.type"] == "upstream_error"


@aio
async def test_agents_of_clients_and_plain_servers(collector: Collector) -> None:
    agents, plain = Agents(), OpenAIServer()
    async with (
        plain.server,
        serving(agents.pair, plain=(plain.server.url,), trace=collector.settings) as router,
    ):
        message = {"role": "user", "content": "x"}
        body = {"model": "fake", "run": "r", "agent": "a", "messages": [message]}
        assert (await router.post(PATH, body)).status_code == 200
        body = {**body, "model": "other", "agent": "b"}
        assert (await router.post(PATH, body)).status_code == 200
        answer = await router.post(PATH, {"model": "other", "messages": [message], "stream": True})
        assert answer.status_code == 200
        assert (await router.post("/v1/completions", {"model": "other", "prompt": "x"})).status_code == 404
    for name, kinds in (("a", ["prefill", "decode"]), ("b", ["plain"])):
        agent = collector.one(f"invoke_agent {name}")
        assert {"moa.run": "r", "moa.state": "done"}.items() <= agent.attributes.items()
        assert [leg.attributes["moa.worker.role"] for leg in legs(collector, agent)] == kinds
        (request,) = (span for span in collector.spans if span.id == agent.parent)
        assert request.kind == "SERVER"
    direct = next(span for span in collector.spans if span.kind == "SERVER" and legs(collector, span))
    for parent, call in zip((collector.one("invoke_agent b"), direct), plain.server.to(PATH), strict=True):
        assert legs(collector, parent)[0].carried_by(call)
    assert direct.attributes["gen_ai.usage.input_tokens"] == 7
    assert len(direct.named("moa.first_token")) == 1
    refused = legs(collector, collector.one("POST /v1/completions"))[0]
    assert (refused.failed, refused.attributes["error.type"]) == (True, "404")


@aio
async def test_a_request_to_a_worker_tells_its_method(collector: Collector) -> None:
    async with BeforePlain([PlainServer()], trace=collector.settings) as before:
        made = (await before.router.post("/v1/responses", {"model": "m", "input": "x"})).json()["id"]
        assert (await before.router.http.get(f"/v1/responses/{made}")).status_code == 200
    sent = sorted((span for span in collector.spans if span.kind == "CLIENT"), key=lambda span: span.start)
    assert [span.attributes["http.request.method"] for span in sent] == ["POST", "GET"]


def test_an_encrypted_request_is_told(collector: Collector) -> None:
    tracing = start_tracing(collector.settings)
    assert tracing is not None
    scope = {"type": "http", "method": "GET", "path": PATH, "headers": [], "scheme": "https"}
    request = ClientRequest(scope, Mock(), Mock(), max_body=1)
    tracing.start_request(request, PATH, "chat").end(request, "")
    run(tracing.stop)
    assert collector.one(f"GET {PATH}").attributes["url.scheme"] == "https"


# ---- what answers tell


def seen(*chunks: bytes, kind: bytes = b"application/json") -> ResponseObserver:
    watch = ResponseObserver()
    watch({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for chunk in chunks:
        watch({"type": "http.response.body", "body": chunk, "more_body": True})
    watch({"type": "http.response.body", "body": b""})
    return watch


def streamed(*events: object) -> ResponseObserver:
    chunks = [format_event(each if isinstance(each, bytes) else orjson.dumps(each)) for each in events]
    return seen(*chunks, kind=b"text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    ("watch", "tokens", "reasons", "error"),
    [
        (seen(orjson.dumps(native_event("x", "length", (4, 9)))), (4, 9), ["length"], None),
        (seen(orjson.dumps([native_event("x", "stop", (4, 9))] * 2)), (8, 18), ["stop", "stop"], None),
        (streamed(native_event("x"), native_event("xy", "stop", (4, 2)), DONE), (4, 2), ["stop"], None),
        (streamed({**native_event("xy", "stop", (4, 2)), "index": 1}, DONE), None, [], None),
        (streamed(chat_event("x"), {"error": {"type": "timeout", "code": 504}}, DONE), None, [], "timeout"),
        (streamed(*[chat_event("x")] * 9, chat_event("", "stop", (1, 2)), DONE), (1, 2), ["stop"], None),
        (seen(b'{"usage": 7, "choices": "none"}'), None, [], None),
        (seen(b'{"meta_info": []}'), None, [], None),
        (seen(b"not JSON"), None, [], None),
        (seen(b"[1, null]"), None, [], None),
        (
            seen(orjson.dumps({**native_event("x", "stop", (4, 9)), "more": "x" * MAX_PARSED_BYTES})),
            None,
            [],
            None,
        ),
        (seen(), None, [], None),
    ],
)
def test_what_an_answer_tells(
    watch: ResponseObserver, tokens: tuple[int, int] | None, reasons: list[str], error: str | None
) -> None:
    told = watch.summary()
    assert (told.tokens, told.finish_reasons, told.error) == (tokens, reasons, error)
    assert watch.complete


# ---- the collector, and the flag


@pytest.mark.parametrize(
    "endpoint", ["localhost", "https://h:4317", "h:x", ":4317", "h:4317/v1", "", "h:0", "h:70000", "a b:1"]
)
def test_wrong_endpoints(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse([*PAIR, "--enable-trace", "--otlp-traces-endpoint", endpoint])
    assert left.value.code == 2
    words = f"--otlp-traces-endpoint {endpoint!r} is no address; give HOST:PORT, like localhost:4317."
    assert words in capsys.readouterr().err


def test_the_flags() -> None:
    assert parse(PAIR).trace == TraceSettings(enable_trace=False, otlp_traces_endpoint="localhost:4317")
    for endpoint in ("10.0.0.1:4317", "http://collector.monitoring.svc:4317", "[::1]:55680"):
        given = parse([*PAIR, "--enable-trace", "--otlp-traces-endpoint", endpoint]).trace
        assert given == TraceSettings(enable_trace=True, otlp_traces_endpoint=endpoint)


@aio
async def test_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No request fails, the end does not wait for it, and it is complained of once."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setattr(export, "FLUSH_TIMEOUT", 0.1)
    with collecting() as collector:
        settings = collector.settings
    caplog.set_level(logging.WARNING)
    async with serving(FakePair(), trace=settings) as router:
        for _ in range(3):
            assert (await router.post("/generate", {"text": "x"})).status_code == 200
        await until(lambda: bool(caplog.records), "it is complained of")
    await until(lambda: not [each for each in threading.enumerate() if each.name.startswith("OtelBatch")], "it gave up")
    words = [record.getMessage() for record in caplog.records]
    assert len(words) == 2
    assert settings.otlp_traces_endpoint in words[0]
    assert "UNAVAILABLE" in words[0]
    assert words[1] == f"the collector {settings.otlp_traces_endpoint} did not take the last spans within 0.1 s."


def test_complaints_are_few(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("opentelemetry")
    monkeypatch.setattr(library, "handlers", [export.RateLimitedHandler()])
    monkeypatch.setattr(library, "propagate", False)
    for pause in (60.0, 0.0):
        monkeypatch.setattr(export, "LOG_INTERVAL", pause)
        for name in ("opentelemetry.a", "opentelemetry.b", "opentelemetry.a", "opentelemetry.a"):
            logging.getLogger(name).error("no %s", "luck")
    assert [record.getMessage() for record in caplog.records] == [
        "no luck",
        "no luck",
        "no luck (2 lines were left out)",
        *["no luck"] * 3,
    ]


@aio
async def test_without_the_flag_a_clients_context_goes_on_as_it_came() -> None:
    async with serving(FakePair()) as router:
        answer = await router.http.post(PATH, json=CHAT, headers=THEIRS)
        assert answer.status_code == 200
        for fake in (router.pairs[0].prefill, router.pairs[0].decode):
            assert {name: fake.requests[0].headers.get(name) for name in THEIRS} == THEIRS
        await router.http.post(PATH, json=CHAT)
        assert not THEIRS.keys() & router.pairs[0].decode.requests[1].headers.keys(), "nothing is made up"


def test_without_the_flag_nothing_is_imported() -> None:
    program = (
        "import sys, router.__main__; from router.server.app import App; from router.cli.parser import parse\n"
        "from router.server.components import build_components\n"
        f"App(build_components(parse({PAIR!r})))\n"
        "sys.exit(any(name.partition('.')[0] in ('opentelemetry', 'grpc') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_without_the_library_it_is_refused(tmp_path: Path) -> None:
    """The library stands in the environment: a module that refuses to be found hides it."""
    program = (
        "import sys\n"
        "class Hides:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hides())\n"
        f"sys.argv[1:] = {[*PAIR, '--enable-trace']!r}\n"
        "from router.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    words = "--enable-trace needs OpenTelemetry, which is not installed; pip install 'faster-moa[otel]'."
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"router: {words}\n")


def test_a_module_of_ours_that_is_missing_is_not_blamed_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "router.observability.tracing.request_span", None)
    with pytest.raises(ModuleNotFoundError):
        start_tracing(TraceSettings(enable_trace=True))
