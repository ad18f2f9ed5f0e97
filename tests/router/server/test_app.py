"""The router as a client sees it, over a fake pair (fakes for the faults; see fakes.py)."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from router.server.settings import ServerSettings
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakePair, chat_event, chunk, head, whole
from tests.router.support.serving import Serving, serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


def data_lines(text: str) -> list[str]:
    """The payloads of a stream, which must be well formed."""
    events = text.split("\n\n")
    assert events.pop().strip() == ""
    payloads = [event.strip().removeprefix("data: ") for event in events]
    for payload in payloads:
        assert payload == "[DONE]" or orjson.loads(payload) is not None
    return payloads


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nowhere", 404, "there is no /nowhere here"),
        ("GET", "/generate", 405, "/generate takes POST, not GET"),
        ("POST", "/health", 405, "/health takes GET, not POST"),
        ("DELETE", "/v1/models", 405, "/v1/models takes GET, not DELETE"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, words: str) -> None:
    async def test() -> None:
        async with serving(FakePair()) as router:
            answer = await router.http.request(method, path)
            assert answer.status_code == status
            error = answer.json()["error"]
            assert words in error["message"]
            assert error["code"] == status
            assert ("allow" in answer.headers) == (status == 405)

    run(test)


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b"[1]", 400, "must be a JSON object, not a list"),
        (b'{"model": 7}', 400, "`model` must be a string"),
        (b'{"model": "other"}', 404, "the model 'other' is not served here; served: fake."),
        (b'{"text": "x", "rid": 7}', 400, "`rid` must be a string"),
        (b'{"text": "x", "a": ' + b"[" * 400 + b"]" * 400 + b"}", 400, "nested too deeply"),
        (b'{"text": "' + b"x" * 2000 + b'"}', 413, "the body is over 1000 bytes"),
    ],
)
def test_wrong_bodies(path: str, raw: bytes, status: int, words: str) -> None:
    async def test() -> None:
        async with serving(FakePair(), max_body=1000) as router:
            answer = await router.http.post(path, content=raw)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
            assert words in answer.json()["error"]["message"]
            assert router.pairs[0].decode.requests == []
            await router.settled()

    run(test)


@aio
async def test_information() -> None:
    async with serving(FakePair("a"), FakePair("b")) as router:
        assert (await router.http.get("/health")).json() == {"status": "ok", "models": ["a", "b"]}
        models = (await router.http.get("/v1/models")).json()["data"]
        assert [(model["id"], model["owned_by"]) for model in models] == [
            ("a", "sglang"),
            ("b", "sglang"),
            ("moa", "faster-moa"),
        ]
        workers = (await router.http.get("/workers")).json()["workers"]
        assert [(w["role"], w["model"], w["healthy"], w["load"]) for w in workers] == [
            (role, model, True, 0) for role in ("prefill", "decode") for model in ("a", "b")
        ]
        answer = await router.post("/generate", {"text": "x"})
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            400,
            "several models are served here; name one in `model`: a, b.",
        )


@aio
async def test_health_generate_asks_the_idlest_and_policies_learn_nothing_of_it() -> None:
    first, second = FakePair(), FakePair()
    second.rooms = first.rooms  # any prefill server with any decode server
    async with serving(first, second) as router:
        busy = [worker for worker in router.registry.workers if worker.url in (first.prefill.url, second.decode.url)]
        for worker in busy:
            worker.load.requests += 1
        before = (await router.http.get("/metrics")).text
        for _ in range(4):
            assert (await router.http.get("/health_generate")).status_code == 200
        for worker in busy:
            worker.load.requests -= 1
        assert [len(server.requests) for server in (first.prefill, first.decode, second.prefill, second.decode)] == [
            0,
            4,
            4,
            0,
        ]
        after = (await router.http.get("/metrics")).text
        chosen = [
            [line for line in told.splitlines() if line.startswith("smg_worker_selection_total")]
            for told in (before, after)
        ]
        assert chosen[0] == chosen[1]
        await router.settled()


@aio
async def test_without_any_worker() -> None:
    pair = FakePair()
    pair.prefill.info = pair.decode.info = {}
    async with serving(pair) as router:
        health = await router.http.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "models": []})
        for answer in (
            await router.http.get("/readiness"),
            await router.post("/generate", {"text": "x"}),
            await router.post("/v1/chat/completions", {**CHAT, "model": "moa"}),
        ):
            assert answer.status_code == 503
        assert (await router.http.get("/v1/models")).json()["data"] == []
        problems = [w["problem"] for w in (await router.http.get("/workers")).json()["workers"]]
        assert all("which model it serves" in problem for problem in problems)


@aio
async def test_generate() -> None:
    async with serving(FakePair()) as router:
        answer = await router.post("/generate", {"model": "fake", "text": "x", "bootstrap_host": None})
        assert answer.json()["text"] == "one two"
        sent = router.pairs[0].prefill.requests[0].json
        assert "model" not in sent
        assert sent["bootstrap_host"] == "127.0.0.1"
        await router.settled()
        assert router.pairs[0].decode.aborted == []


@aio
async def test_input_logprobs_come_from_prefill() -> None:
    async with serving(FakePair()) as router:
        meta = (await router.post("/generate", {"text": "x", "return_logprob": True, "logprob_start_len": 0})).json()[
            "meta_info"
        ]
        assert meta == {"output_token_logprobs": [], "input_token_logprobs": [[-1.0, 1, None]]}


@pytest.mark.parametrize("answer", [b"nonsense", b"{}", b"[]", b"7"])
def test_input_logprobs_from_a_prefill_that_answers_nonsense(answer: bytes) -> None:
    async def prefill(call: Call) -> None:
        await call.send(whole(answer))

    async def test() -> None:
        pair = FakePair()
        pair.prefill.generate = prefill
        async with serving(pair) as router:
            told = await router.post("/generate", {"text": "x", "return_logprob": True, "logprob_start_len": 0})
            assert told.status_code == 502
            assert "do not fit together" in told.json()["error"]["message"]
            await router.settled()

    run(test)


@aio
async def test_streaming() -> None:
    async with serving(FakePair()) as router:
        for _ in range(3):
            answer = await router.post("/v1/chat/completions", {**CHAT, "stream": True})
            assert answer.headers["content-type"].startswith("text/event-stream")
            payloads = data_lines(answer.text)
            assert payloads[-1] == "[DONE]"
            assert "".join(orjson.loads(p)["choices"][0]["delta"]["content"] for p in payloads[:-1]) == "one two"
        await router.settled()
        assert router.pairs[0].decode.aborted == [], "a whole answer is not followed by an abort"
        assert router.pairs[0].decode.server.accepted == 1, "and its connection is used again"


@aio
async def test_decodes_own_errors_pass_through() -> None:
    async def decode(call: Call) -> None:
        await call.send(whole(b"Internal Server Error", 500, ("content-type", "text/plain")))

    pair = FakePair()
    pair.decode.generate = decode
    async with serving(pair) as router:
        for stream in (False, True):
            answer = await router.post("/v1/chat/completions", {**CHAT, "stream": stream})
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
            assert answer.headers["content-type"] == "text/plain"
        await router.settled()
        assert len(pair.prefill.aborted) == 2


@pytest.mark.parametrize("tail", [b"", b"data: ", b'data: {"choices": [{"del', b'data: {"choices": []}\n'])
def test_decode_dies_in_the_middle_of_a_stream(tail: bytes) -> None:
    """Even between two bytes of an event, the client reads whole events: an error, then `[DONE]`."""

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one"))
        if tail:
            await call.send(chunk(tail))
        await asyncio.sleep(0.02)
        call.drop()

    pair = FakePair()
    pair.decode.generate = decode

    async def test() -> None:
        async with serving(pair) as router:
            answer = await router.post("/v1/chat/completions", {**CHAT, "stream": True})
            assert answer.status_code == 200
            first, *_, error, done = data_lines(answer.text)
            assert orjson.loads(first)["choices"][0]["delta"]["content"] == "one"
            assert orjson.loads(error)["error"]["code"] == 502
            assert "closed the connection before its answer was whole" in orjson.loads(error)["error"]["message"]
            assert done == "[DONE]"
            await router.settled()
            assert len(pair.prefill.aborted) == len(pair.decode.aborted) == 1

    run(test)


@aio
async def test_prefill_dies_in_the_middle_of_a_stream() -> None:
    die = asyncio.Event()

    async def prefill(call: Call) -> None:
        await die.wait()
        call.drop()

    async def decode(call: Call) -> None:
        await call.stream(chat_event("one"))
        die.set()
        await call.gone()

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = prefill, decode
    async with serving(pair) as router:
        answer = await within(3.0, router.post("/v1/chat/completions", {**CHAT, "stream": True}))
        *_, error, done = data_lines(answer.text)
        assert pair.prefill.url in orjson.loads(error)["error"]["message"]
        assert done == "[DONE]"
        await router.freed()


@aio
async def test_prefill_refuses_fast() -> None:
    async def prefill(call: Call) -> None:
        call.drop()

    async def decode(call: Call) -> None:
        await call.gone()

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = prefill, decode
    async with serving(pair) as router:
        for stream in (False, True):
            answer = await within(3.0, router.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            assert answer.status_code == 502
            assert pair.prefill.url in answer.json()["error"]["message"]
        await router.freed()
        assert len(pair.decode.aborted) == 2


@aio
async def test_a_refusal_before_anything_was_streamed_has_an_honest_status() -> None:
    """Decode begins its stream before it knows whether KV will come; the client is not told 200 for that."""

    async def prefill(call: Call) -> None:
        await call.answer({"error": {"message": "the queue is full"}}, 503)

    async def decode(call: Call) -> None:
        await asyncio.sleep(0.05)
        await call.stream()
        await call.gone()

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = prefill, decode
    async with serving(pair) as router:
        answer = await within(3.0, router.post("/v1/chat/completions", {**CHAT, "stream": True}))
        assert answer.status_code == 502
        assert "with 503: the queue is full" in answer.json()["error"]["message"]
        await router.freed()


async def raw_request(router: Serving, body: dict[str, Any]) -> asyncio.StreamWriter:
    """Send a chat request on a connection of its own."""
    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    raw = orjson.dumps({**CHAT, **body})
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
    await writer.drain()
    return writer


@pytest.mark.claim("time-is-bounded")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves(stream: bool) -> None:
    """Both connections to the workers are closed and both are told to abort."""

    async def prefill(call: Call) -> None:
        await call.gone()

    async def decode(call: Call) -> None:
        if call.json["stream"]:
            await call.stream(chat_event("one"))
        await call.gone()

    async def test() -> None:
        pair = FakePair()
        pair.prefill.generate, pair.decode.generate = prefill, decode
        async with serving(pair) as router:
            writer = await raw_request(router, {"stream": stream})
            await until(lambda: len(pair.decode.requests) == len(pair.prefill.requests) == 1, "both were asked")
            await asyncio.sleep(0.05)
            writer.close()
            await until(lambda: len(pair.decode.aborted) == len(pair.prefill.aborted) == 1, "both were told")
            await router.freed()

    run(test)


@aio
async def test_a_client_that_leaves_without_reading() -> None:
    """The router is stuck in sending, not in waiting for the worker, when the client goes away."""

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.send(head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")))
        while True:
            await call.send(chunk(b"data: " + b"x" * 65536 + b"\n\n"))

    pair = FakePair()
    pair.decode.generate = decode
    async with serving(pair) as router:
        writer = await raw_request(router, {"stream": True})
        await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
        await asyncio.sleep(0.3)
        writer.transport.abort()
        await until(lambda: len(pair.decode.aborted) == 1, "decode was told")
        await router.freed()


@pytest.mark.parametrize("ends", [False, True])
def test_a_client_that_takes_nothing_is_left_when_its_time_is_over(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the answer, and with all but its last chunk sent: no worker and no place is held for it."""

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream()
        if ends:
            await call.send(chunk(b"data: " + b"x" * (8 << 20) + b"\n\n") + chunk(b""))
        while not ends:
            await call.send(chunk(b"data: " + b"x" * 65536 + b"\n\n"))

    async def test() -> None:
        async with serving(pair, server=ServerSettings(request_timeout_secs=0.4)) as router:
            writer = await raw_request(router, {"stream": True})
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
            await until(lambda: not router.requests, "the client is left")
            await router.settled()
            writer.transport.abort()

    monkeypatch.setattr("router.endpoints.answering.ERROR_EVENT_TIMEOUT", 0.1)
    pair = FakePair()
    pair.decode.generate = decode
    run(test)


@aio
async def test_prefill_that_answers_late_is_waited_for() -> None:
    """The client has its whole answer; that must not pass for a client that left."""

    answered = asyncio.Event()

    async def prefill(call: Call) -> None:
        await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"{"))
        await answered.wait()
        await asyncio.sleep(0.05)
        await call.send(chunk(b"}") + chunk(b""))

    pair = FakePair()
    pair.prefill.generate = prefill
    async with serving(pair) as router:
        for stream in (False, True):
            answered.clear()
            await within(0.9, router.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            answered.set()
            await asyncio.sleep(0.1)
            await router.settled()
        assert pair.prefill.server.accepted == 1, "prefill's connection was dropped instead of kept"
        assert pair.prefill.aborted == []


@aio
async def test_many_clients_at_once() -> None:
    async with serving(FakePair("a"), FakePair("b")) as router:
        answers = await asyncio.gather(
            *(router.post("/generate", {"model": "ab"[number % 2], "text": str(number)}) for number in range(60))
        )
        assert {answer.json()["text"] for answer in answers} == {"one two"}
        assert [len(pair.decode.requests) for pair in router.pairs] == [30, 30]
        await router.settled()


@aio
async def test_a_probe_that_fails_oddly_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = 0

    async def probe() -> None:
        nonlocal probes
        probes += 1
        raise ZeroDivisionError

    async with serving(FakePair()) as router:
        monkeypatch.setattr(router.registry, "probe", probe)
        monkeypatch.setattr(router.supervisor, "_probe_interval_secs", 0.01)
        again = asyncio.create_task(router.supervisor._probe_periodically())
        await until(lambda: probes > 2, "it goes on probing")
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


@aio
async def test_keep_alive_clients() -> None:
    async with serving(FakePair()) as router, httpx.AsyncClient(base_url=router.url, timeout=60) as client:
        for body, status in ((b"{", 400), (orjson.dumps(CHAT), 200), (b"[]", 400), (orjson.dumps(CHAT), 200)):
            assert (await client.post("/v1/chat/completions", content=body)).status_code == status
