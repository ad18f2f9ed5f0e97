"""Limits: the gate and the bucket by themselves, and in a router."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import TimedOutInQueue, TooManyRequests
from router.server.admission import AdmissionSettings, ConcurrencyGate, TokenBucket
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving


@given(rate=st.floats(0.1, 100), size=st.floats(0.5, 50), waits=st.lists(st.floats(0, 5), max_size=50))
def test_a_bucket_gives_no_more_than_its_rate(rate: float, size: float, waits: list[float]) -> None:
    now, given_out = 0.0, 0
    bucket = TokenBucket(rate, size, clock=lambda: now)
    for wait in waits:
        now += wait
        left = bucket.take()
        if left == 0:
            given_out += 1
        else:
            now += left + 1e-9
            assert bucket.take() == 0, "the wait that it tells is enough"
            given_out += 1
        assert given_out <= max(size, 1) + now * rate + 1e-6


def test_first_come_first_served() -> None:
    async def test() -> None:
        gate, order = ConcurrencyGate(1, 10, 5.0), []

        async def one(number: int) -> None:
            turn = gate.enter()
            if turn is not None:
                await gate.wait(turn)
            order.append(number)
            await asyncio.sleep(0)
            gate.leave()

        await asyncio.gather(*(one(number) for number in range(8)))
        assert order == list(range(8))
        assert (gate.running, gate.waiting) == (0, 0)

    run(test)


def test_a_place_is_given_up_at_any_moment() -> None:
    """Before the turn, and in the very moment that it comes."""

    async def test() -> None:
        gate = ConcurrencyGate(1, 10, 5.0)
        assert gate.enter() is None
        before, at, after = (gate.enter() for _ in range(3))
        assert before is not None
        assert at is not None
        assert after is not None
        gate.cancel(before)
        assert gate.waiting == 2
        gate.leave()
        assert at.done()
        gate.cancel(at)
        await gate.wait(after)
        gate.leave()
        assert (gate.running, gate.waiting) == (0, 0)

    run(test)


def test_the_queue_is_bounded_in_length_and_time() -> None:
    async def test() -> None:
        gate = ConcurrencyGate(1, 1, 0.01)
        assert gate.enter() is None
        turn = gate.enter()
        assert turn is not None
        with pytest.raises(TooManyRequests, match=r"^1 requests run and 1 wait: that is the limit; try again later\.$"):
            gate.enter()
        with pytest.raises(TimedOutInQueue, match=r"waited 0\.01 s"):
            await gate.wait(turn)
        gate.cancel(turn)
        assert (gate.running, gate.waiting) == (1, 0)

    run(test)


class Slow(FakePair):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()
        self.decode.generate = self.slowly

    async def slowly(self, call: Call) -> None:
        if await call.waits_for(self.release):
            await self.decoded(call)


def ask(client: Serving) -> "asyncio.Task[int]":
    async def status() -> int:
        return (await client.post("/generate", {"text": "x"})).status_code

    return asyncio.create_task(status())


@aio
async def test_so_many_at_once_so_many_waiting() -> None:
    pair = Slow()
    async with serving(pair, limits=AdmissionSettings(max_concurrent=2, queue_size=1)) as client:
        gate = client.limits.gate
        assert gate is not None
        running = [ask(client), ask(client)]
        await until(lambda: len(pair.decode.requests) == 2, "two run")
        running.append(ask(client))
        await until(lambda: gate.waiting == 1, "one waits")
        answer = await client.post("/generate", {"text": "x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert (await client.http.get("/workers")).status_code == 200, "only requests for models are limited"
        assert len(pair.decode.requests) == 2
        pair.release.set()
        assert await within(5.0, asyncio.gather(*running)) == [200, 200, 200]
        await until(lambda: gate.running == 0, "all have left")
        assert client.limits.decisions == {"allowed": 3, "rejected": 1}


@aio
async def test_no_queue() -> None:
    pair = Slow()
    async with serving(pair, limits=AdmissionSettings(max_concurrent=1, queue_size=0)) as client:
        first = ask(client)
        await until(lambda: len(pair.decode.requests) == 1, "one runs")
        assert await ask(client) == 429
        pair.release.set()
        assert await within(5.0, first) == 200


@aio
async def test_who_waits_too_long() -> None:
    pair = Slow()
    async with serving(pair, limits=AdmissionSettings(max_concurrent=1, queue_timeout_secs=0.05)) as client:
        first = ask(client)
        await until(lambda: len(pair.decode.requests) == 1, "one runs")
        answer = await client.post("/generate", {"text": "x"})
        assert answer.status_code == 408
        assert "waited 0.05 s for its turn" in answer.json()["error"]["message"]
        assert len(pair.decode.requests) == 1
        pair.release.set()
        assert await within(5.0, first) == 200


@aio
async def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    pair = Slow()
    async with serving(pair, limits=AdmissionSettings(max_concurrent=1, queue_size=1)) as client:
        gate = client.limits.gate
        assert gate is not None
        first = ask(client)
        await until(lambda: len(pair.decode.requests) == 1, "one runs")
        second = ask(client)
        await until(lambda: gate.waiting == 1, "one waits")
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await until(lambda: gate.waiting == 0, "its place is free")
        third = ask(client)
        await until(lambda: gate.waiting == 1, "another waits")
        pair.release.set()
        assert await within(5.0, asyncio.gather(first, third)) == [200, 200]
        await until(lambda: gate.running == 0, "all have left")
        assert len(pair.decode.requests) == 2


@aio
async def test_wrong_requests_leave_too() -> None:
    async with serving(FakePair(), limits=AdmissionSettings(max_concurrent=1, queue_size=0)) as client:
        for _ in range(3):
            assert (await client.http.post("/generate", content=b"{")).status_code == 400
        assert await ask(client) == 200


@aio
async def test_a_rate() -> None:
    async with serving(FakePair(), limits=AdmissionSettings(rate=0.001)) as client:
        assert await ask(client) == 200
        answer = await client.post("/generate", {"text": "x"})
        assert answer.status_code == 429
        assert 900 <= int(answer.headers["retry-after"]) <= 1000
