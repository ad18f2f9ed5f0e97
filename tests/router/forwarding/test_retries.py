"""Retries: a new room each time, another worker where there is one, nothing after the first byte."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dispatch.retries import RetrySettings
from router.server.settings import ServerSettings
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, Handler, chat_event, whole
from tests.router.support.serving import serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
FAST = RetrySettings(initial_backoff_ms=1, max_backoff_ms=5)
RETRIED = (408, 429, 500, 502, 503, 504)


def failing(pair: FakePair, times: int, status: int) -> Handler:
    """Decode's answer: an error some times, then what it does otherwise."""
    well = pair.decode.generate
    left = times

    async def decode(call: Call) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            await call.send(whole(b'{"error": "try again"}', status))
        else:
            await well(call)

    return decode


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(1, 10))
def test_waits_grow_within_their_bounds(attempt: int, jitter: float, multiplier: float) -> None:
    settings = RetrySettings(jitter_factor=jitter, backoff_multiplier=multiplier, max_backoff_ms=400)
    wait = settings.backoff(attempt)
    middle = 400 if attempt > 1000 and multiplier > 1.01 else min(50 * multiplier ** min(attempt - 1, 300), 400)
    if attempt <= 300 or multiplier > 1.01:
        assert middle * (1 - jitter) / 1000 - 1e-9 <= wait <= middle * (1 + jitter) / 1000 + 1e-9
    assert 0 <= wait <= 0.8


def test_waits_are_not_all_the_same() -> None:
    assert len({RetrySettings().backoff(1) for _ in range(20)}) > 10
    assert RetrySettings(disable_retries=True).max_attempts == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", RETRIED)
def test_what_is_retried(status: int, stream: bool) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = failing(pair, 2, status)
        async with serving(pair, retries=FAST) as client:
            answer = await client.post("/v1/chat/completions", {**CHAT, "stream": stream})
            assert answer.status_code == 200
            assert "try again" not in answer.text
            await client.settled()
            for fake in (pair.prefill, pair.decode):
                bodies = [call.json for call in fake.requests]
                assert len(bodies) == 3
                assert len({body["bootstrap_room"] for body in bodies}) == 3, "a room is never used twice"
                assert len({body["rid"] for body in bodies}) == 3
                assert len(fake.aborted) == 2, "what failed is ended on both servers"

    test()


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 501])
def test_what_is_not(status: int) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = failing(pair, 1, status)
        async with serving(pair, retries=FAST) as client:
            answer = await client.post("/v1/chat/completions", CHAT)
            assert (answer.status_code, answer.json()) == (status, {"error": "try again"})
            assert len(pair.decode.requests) == 1

    test()


@pytest.mark.parametrize("status", RETRIED)
def test_the_last_answer_is_passed_on(status: int) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = failing(pair, 99, status)
        async with serving(pair, retries=FAST) as client:
            answer = await client.post("/v1/chat/completions", CHAT)
            assert (answer.status_code, answer.json()) == (status, {"error": "try again"})
            assert len(pair.decode.requests) == FAST.max_retries

    test()


@aio
async def test_another_worker_is_tried_first() -> None:
    """One decode server always fails; a request that it failed goes to the other."""
    good, bad = FakePair(), FakePair()
    good.decode.generate = failing(good, 0, 500)
    bad.decode.generate = failing(bad, 99, 500)
    bad.rooms = good.rooms  # any prefill server works with any decode server
    async with serving(good, bad, retries=FAST, policy="round_robin") as client:
        for _ in range(8):
            assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
        await client.settled()
        assert len(good.decode.requests) == 8
        assert 4 <= len(bad.decode.requests) <= 8, "no request came back to it"


@aio
async def test_a_broken_connection_is_retried() -> None:
    pair = FakePair()
    well, broken = pair.decode.generate, 0

    async def decode(call: Call) -> None:
        nonlocal broken
        broken += 1
        if broken < 3:
            call.drop()
        else:
            await well(call)

    pair.decode.generate = decode
    async with serving(pair, retries=FAST) as client:
        assert (await client.post("/generate", {"text": "x"})).json()["text"] == "one two"
        await client.settled()


@aio
async def test_a_refusing_prefill_server_is_retried_by_its_own_status() -> None:
    pair = FakePair()
    well = pair.prefill.generate
    statuses = [503, 429]

    async def prefill(call: Call) -> None:
        if statuses:
            await call.answer({"error": {"message": "full"}}, statuses.pop())
        else:
            await well(call)

    async def decode(call: Call) -> None:
        if statuses:
            await call.gone()
        else:
            await FakePair.decoded(pair, call)

    pair.prefill.generate, pair.decode.generate = prefill, pair.decode.generate
    async with serving(pair, retries=FAST) as client:
        assert (await within(5.0, client.post("/generate", {"text": "x"}))).status_code == 200


@aio
async def test_a_stream_that_breaks_before_its_first_piece_is_retried() -> None:
    """SGLang sends the head of a stream before it has a token."""
    pair = FakePair()
    well, broken = pair.decode.generate, 0

    async def decode(call: Call) -> None:
        nonlocal broken
        broken += 1
        if broken == 1:
            pair.room(call).set()
            await call.stream()
            await asyncio.sleep(0.02)
            call.drop()
        else:
            await well(call)

    pair.decode.generate = decode
    async with serving(pair, retries=FAST) as client:
        answer = await client.post("/v1/chat/completions", {**CHAT, "stream": True})
        assert answer.status_code == 200
        assert "error" not in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert len(pair.decode.requests) == 2


# As decode says, under a status of 200, that it could not serve the request.
GIVEN_UP = {
    "/generate": {
        "text": "",
        "meta_info": {"finish_reason": {"type": "abort", "message": "no KV came", "status_code": 500}},
    },
    "/v1/chat/completions": {"error": {"message": "no KV came", "code": 500}},
}


@pytest.mark.parametrize("path", GIVEN_UP)
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_stream_that_begins_with_a_failure_is_retried(path: str, attempts: int) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        well = pair.decode.generate

        async def decode(call: Call) -> None:
            if len(pair.decode.requests) > 1:
                await well(call)
                return
            pair.room(call).set()
            await call.stream(GIVEN_UP[path])
            await call.done()

        pair.decode.generate = decode
        async with serving(pair, retries=replace(FAST, max_retries=attempts)) as client:
            answer = await client.post(path, {**CHAT, "text": "x", "stream": True})
            assert len(pair.decode.requests) == attempts
            if attempts == 1:
                assert answer.status_code == 502
                assert answer.json()["error"]["message"] == "a server gave the request up with 500: no KV came"
                assert client.registry.workers[1].breaker.consecutive_failures == 1
            else:
                assert answer.status_code == 200
                assert "no KV came" not in answer.text
                assert answer.text.endswith("data: [DONE]\n\n")
            await client.settled()

    test()


@aio
async def test_a_failure_of_decode_does_not_wait_for_prefills_part_of_the_stream() -> None:
    """Prefill has the prompt's log-probabilities, and waits for a decode that gave up."""
    pair = FakePair()

    async def prefill(call: Call) -> None:
        await call.gone()

    async def decode(call: Call) -> None:
        await call.stream(GIVEN_UP["/generate"])
        await call.done()

    pair.prefill.generate, pair.decode.generate = prefill, decode
    async with serving(pair, retries=replace(FAST, max_retries=1)) as client:
        asked = {"text": "x", "stream": True, "return_logprob": True, "logprob_start_len": 0}
        assert (await within(5.0, client.post("/generate", asked))).status_code == 502


@aio
async def test_a_stream_of_decode_that_prefill_let_down_counts_against_prefill() -> None:
    pair = FakePair()
    lost = asyncio.Event()

    async def prefill(call: Call) -> None:
        call.drop()
        lost.set()

    async def decode(call: Call) -> None:
        await call.stream()
        await lost.wait()
        await asyncio.sleep(0.05)
        await call.event(GIVEN_UP["/generate"])
        await call.done()

    pair.prefill.generate, pair.decode.generate = prefill, decode
    async with serving(pair, retries=replace(FAST, max_retries=1)) as client:
        answer = await client.post("/generate", {"text": "x", "stream": True})
        assert answer.status_code == 502
        assert [worker.breaker.consecutive_failures for worker in client.registry.workers] == [1, 0]


@aio
async def test_nothing_is_retried_after_the_first_byte() -> None:
    pair = FakePair()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one"))
        await asyncio.sleep(0.02)
        call.drop()

    pair.decode.generate = decode
    async with serving(pair, retries=FAST) as client:
        answer = await client.post("/v1/chat/completions", {**CHAT, "stream": True})
        assert answer.status_code == 200
        assert answer.text.count('"one"') == 1
        assert "closed the connection" in answer.text
        await client.settled()
        assert len(pair.decode.requests) == 1


@aio
async def test_a_client_that_leaves_between_attempts_is_not_tried_for_again() -> None:
    pair = FakePair()
    pair.decode.generate = failing(pair, 99, 503)
    slow = RetrySettings(initial_backoff_ms=60_000, max_backoff_ms=60_000)
    async with serving(pair, retries=slow) as client:
        asking = asyncio.create_task(client.post("/generate", {"text": "x"}))
        await until(lambda: len(pair.decode.aborted) == 1, "the first attempt is over")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: not client.requests, "the router noticed")
        assert len(pair.decode.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_a_request_is_limited(stream: bool) -> None:
    async def decode(call: Call) -> None:
        if call.json["stream"]:
            await call.stream(chat_event("one"))
        await call.gone()

    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = decode
        async with serving(pair, server=ServerSettings(request_timeout_secs=1.0)) as client:
            answer = await within(3.0, client.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            words = "the request was not answered within 1 s."
            if stream:
                *_, error, done, _ = answer.text.split("\n\n")
                assert orjson.loads(error.strip().removeprefix("data: "))["error"]["message"] == words
                assert done == "data: [DONE]"
            else:
                assert (answer.status_code, answer.json()["error"]["message"]) == (504, words)
            await client.settled()
            assert len(pair.prefill.aborted) == len(pair.decode.aborted) == 1

    test()
