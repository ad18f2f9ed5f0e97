"""Circuit breakers: by themselves on a clock of their own, and in a router."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.workers.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from router.workers.health import HealthSettings
from router.workers.worker import Worker
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, started, whole
from tests.router.support.serving import Serving, serving


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, **settings: Any) -> CircuitBreaker:
    given = {"failure_threshold": 3, "success_threshold": 2, "timeout_secs": 60.0, "window_secs": 120.0, **settings}
    return CircuitBreaker(CircuitBreakerSettings(**given), clock=clock)


def state(subject: CircuitBreaker) -> str:
    return subject.state


def one(subject: CircuitBreaker, success: bool | None) -> None:
    assert subject.allows()
    subject.record_outcome(subject.begin_request(), success)


def test_it_opens_after_failures_in_a_row() -> None:
    subject = breaker(Clock())
    for outcome in (False, False, True, False, False, None, False):
        assert state(subject) == "closed"
        one(subject, outcome)
    assert state(subject) == "open"
    assert not subject.allows()
    assert subject.retry_after == 60.0
    assert subject.outcomes == {"failure": 5, "success": 1}
    assert subject.transitions == {("closed", "open"): 1}


def test_failures_long_ago_do_not_count() -> None:
    clock = Clock()
    subject = breaker(clock)
    for clock.now in (0.0, 100.0, 121.0):
        one(subject, False)
    assert state(subject) == "closed"
    one(subject, False)
    assert state(subject) == "open"


def test_half_open_lets_one_through_at_a_time() -> None:
    clock = Clock()
    subject = breaker(clock, failure_threshold=1)
    one(subject, False)
    clock.now = 60.0
    assert state(subject) == "half_open"
    ticket = subject.begin_request()
    assert not subject.allows()
    assert subject.retry_after > 0
    subject.record_outcome(ticket, None)
    assert subject.allows(), "a trial that the client gave up makes room for another"
    one(subject, True)
    assert state(subject) == "half_open"
    one(subject, True)
    assert state(subject) == "closed"
    assert subject.transitions == {("closed", "open"): 1, ("open", "half_open"): 1, ("half_open", "closed"): 1}


def test_a_failed_trial_opens_it_for_another_while() -> None:
    clock = Clock()
    subject = breaker(clock, failure_threshold=3)
    for _ in range(3):
        one(subject, False)
    clock.now = 61.0
    one(subject, True)
    one(subject, False)
    assert state(subject) == "open"
    clock.now = 120.9
    assert not subject.allows()
    clock.now = 121.0
    assert subject.allows()


def test_what_was_sent_before_it_opened_settles_nothing() -> None:
    clock = Clock()
    subject = breaker(clock, failure_threshold=1, success_threshold=1)
    old = [subject.begin_request() for _ in range(3)]
    subject.record_outcome(old[0], False)
    subject.record_outcome(old[1], True)
    assert state(subject) == "open"
    clock.now = 60.0
    trial = subject.begin_request() if subject.allows() else -1
    subject.record_outcome(old[2], True)
    assert (state(subject), subject.allows()) == ("half_open", False)
    subject.record_outcome(trial, True)
    assert state(subject) == "closed"


def test_a_disabled_one_only_counts() -> None:
    subject = breaker(Clock(), failure_threshold=1, disable_breaker=True)
    for _ in range(20):
        one(subject, False)
    assert (state(subject), subject.outcomes["failure"]) == ("closed", 20)


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0, 100)), max_size=60))
def test_it_never_stays_shut(steps: list[tuple[bool | None, float]]) -> None:
    """Whatever happened, when nothing is under way and the time has passed, a request gets through."""
    clock = Clock()
    subject = breaker(clock)
    for outcome, wait in steps:
        clock.now += wait
        if subject.allows():
            subject.record_outcome(subject.begin_request(), outcome)
    clock.now += 60.0
    assert subject.allows()


# In a router

EAGER = CircuitBreakerSettings(failure_threshold=2, success_threshold=1, timeout_secs=60)


async def _fails(call: Call) -> None:
    await call.send(whole(b'{"error": "broken"}', 500))


def worker(client: Serving, url: str) -> Worker:
    return next(w for w in client.registry.workers if w.url == url)


@aio
async def test_an_open_breaker_sends_neither_leg() -> None:
    pair = FakePair()
    pair.decode.generate = _fails
    async with serving(pair, breaker=EAGER) as client:
        for _ in range(2):
            assert (await client.post("/generate", {"text": "x"})).status_code == 500
        await client.settled()
        sent = len(pair.prefill.requests)  # decode may fail before prefill got its leg
        answer = await client.post("/generate", {"text": "x"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) in range(55, 61)
        message = answer.json()["error"]["message"]
        assert message.startswith(f"the decode server {pair.decode.url} failed too often; it is tried again in ")
        assert (len(pair.prefill.requests), len(pair.decode.requests)) == (sent, 2)
        states = {w["role"]: w["breaker"] for w in (await client.http.get("/workers")).json()["workers"]}
        assert states == {"prefill": "closed", "decode": "open"}, "prefill did nothing wrong"


@aio
async def test_half_open_is_a_real_trial() -> None:
    """The first request after the time is sent to the worker; those beside it are not."""
    release = asyncio.Event()
    pair = FakePair()
    well = pair.decode.generate

    async def slow(call: Call) -> None:
        await release.wait()
        await well(call)

    pair.decode.generate = _fails
    async with serving(pair, breaker=EAGER) as client:
        for _ in range(2):
            await client.post("/generate", {"text": "x"})
        await client.settled()
        worker(client, pair.decode.url).breaker._opened_at -= 60  # the time has passed
        pair.decode.generate = slow
        trial = asyncio.create_task(client.post("/generate", {"text": "x"}))
        await until(lambda: len(pair.decode.requests) == 3, "the trial was sent")
        sent = len(pair.prefill.requests)  # decode may have failed before prefill got its leg
        beside = await asyncio.gather(*(client.post("/generate", {"text": "x"}) for _ in range(3)))
        assert {answer.status_code for answer in beside} == {503}
        assert (len(pair.prefill.requests), len(pair.decode.requests)) == (sent, 3)
        release.set()
        assert (await within(3.0, trial)).status_code == 200
        await until(lambda: worker(client, pair.decode.url).breaker.state == "closed", "it is closed")
        assert (await client.post("/generate", {"text": "x"})).status_code == 200


@aio
async def test_a_broken_prefill_server_is_blamed_alone() -> None:
    async def drops(call: Call) -> None:
        call.drop()

    async def waits(call: Call) -> None:
        await call.gone()

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = drops, waits
    async with serving(pair, breaker=EAGER) as client:
        for _ in range(2):
            assert (await client.post("/generate", {"text": "x"})).status_code == 502
        await client.settled()
        assert worker(client, pair.prefill.url).breaker.state == "open"
        assert worker(client, pair.decode.url).breaker.outcomes == {}


@aio
async def test_decode_that_tells_of_a_broken_prefill_server_is_not_blamed() -> None:
    async def breaks(call: Call) -> None:
        await call.send(whole(b'{"error": "out of memory"}', 500))

    async def tells(call: Call) -> None:
        await asyncio.sleep(0.03)
        await call.send(whole(b'{"error": "no KV came"}', 500))

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = breaks, tells
    async with serving(pair, breaker=EAGER) as client:
        for _ in range(2):
            answer = await client.post("/generate", {"text": "x"})
            assert (answer.status_code, answer.json()) == (500, {"error": "no KV came"})
        await client.settled()
        assert state(worker(client, pair.prefill.url).breaker) == "open"
        assert worker(client, pair.decode.url).breaker.outcomes == {}


@pytest.mark.parametrize("status", [400, 404, 422, 429])
def test_refusals_are_no_failures(status: int) -> None:
    async def refuses(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, status)

    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = pair.prefill.generate = refuses
        async with serving(pair, breaker=EAGER) as client:
            for _ in range(4):
                assert (await client.post("/generate", {"text": "x"})).status_code == status
            await client.settled()
            assert all(w.breaker.state == "closed" for w in client.registry.workers)

    test()


@aio
async def test_a_client_that_leaves_is_no_failure() -> None:
    async def waits(call: Call) -> None:
        await call.gone()

    pair = FakePair()
    pair.decode.generate = waits
    async with serving(pair, breaker=EAGER) as client:
        for number in range(3):
            asking = asyncio.create_task(client.post("/generate", {"text": "x"}))
            await until(lambda number=number: len(pair.decode.requests) == number + 1, "it was sent")  # type: ignore[misc]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await client.settled()
        assert all(w.breaker.state == "closed" and not w.breaker.outcomes for w in client.registry.workers)


@aio
async def test_the_router_itself_tries_a_worker_again() -> None:
    """Without any client, so that the next one finds the worker back."""
    pair = FakePair()
    well = pair.decode.generate
    async with serving(pair, breaker=EAGER, health=HealthSettings(probe_interval_secs=60)) as client:
        await until(lambda: client.registry.models() == ["fake"], "ready")
        pair.decode.generate = _fails
        for _ in range(2):
            await client.post("/generate", {"text": "x"})
        await client.settled()
        await client.supervisor._probe_all()
        sent = len(pair.decode.requests)
        pair.decode.generate = well
        subject = worker(client, pair.decode.url).breaker
        assert state(subject) == "open"
        subject._opened_at -= 60
        await client.supervisor._probe_all()
        await until(lambda: state(subject) == "closed", "the router's own trial went well")
        assert len(pair.decode.requests) == sent + 1
        await client.settled()


@aio
async def test_a_worker_that_was_away_begins_anew() -> None:
    pair = FakePair()
    async with started(pair):
        subject = Worker(
            pair.decode.url, "decode", health_settings=HealthSettings(failure_threshold=1, success_threshold=1)
        )
        await subject.probe()
        for _ in range(10):
            subject.breaker.record_outcome(subject.breaker.begin_request(), False)
        assert state(subject.breaker) == "open"
        pair.decode.info, told = {}, pair.decode.info
        await subject.probe()
        assert state(subject.breaker) == "open"
        pair.decode.info = told
        await subject.probe()
        assert state(subject.breaker) == "closed"
        subject.origin.close()
