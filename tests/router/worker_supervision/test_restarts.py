"""Servers that restart: requests wait for them, and their circuit breakers close as soon as they generate."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.dispatch.retries import RetrySettings
from router.server.admission import AdmissionSettings
from router.worker_selection import restart_queue
from router.worker_supervision import supervisor
from router.workers import circuit_breaker
from router.workers.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from router.workers.health import HealthSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair, FakeWorker, Handler, native_event
from tests.router.support.serving import Serving, serving

BODY = {"text": "Hello", "sampling_params": {"max_new_tokens": 2}}
WARM: dict[str, Any] = {
    "retries": RetrySettings(initial_backoff_ms=1),
    "health": HealthSettings(probe_interval_secs=60),
    "breaker": CircuitBreakerSettings(failure_threshold=2),
}


@pytest.fixture(autouse=True)
def _frequent_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(restart_queue, "POLL_SECONDS", 0.02)


async def ready(router: Serving) -> None:
    await until(lambda: router.supervisor.unready_reason() is None, "the pair has generated something")


async def end(worker: FakeWorker) -> None:
    """The server's process ends: its port is closed."""
    await worker.server.__aexit__()


async def begin(worker: FakeWorker, seed: int | None) -> None:
    """Another process at the same address."""
    worker.info["random_seed"] = seed
    await worker.server.__aenter__()


def faithful() -> FakePair:
    """A pair whose decode server answers only what its prefill server has got, as a real one."""
    pair = FakePair()
    prefilled: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def prefill(call: Call) -> None:
        prefilled[str(call.json["bootstrap_room"])].set()
        await pair.prefilled(call)

    async def decode(call: Call) -> None:
        pair.room(call).set()
        if await call.waits_for(prefilled[str(call.json["bootstrap_room"])]):
            await pair.decoded(call)

    pair.prefill.generate, pair.decode.generate = prefill, decode
    return pair


def native(pair: FakePair) -> Handler:
    """Answers in `/generate`'s form."""

    async def handler(call: Call) -> None:
        pair.room(call).set()
        await call.stream(native_event("one", "stop", (3, 1)))
        await call.done()

    return handler


async def broken(call: Call) -> None:
    """A server that is up and cannot generate."""
    await call.answer({"error": {"message": "out of memory"}}, 500)


async def asked_without(router: Serving, worker: FakeWorker, count: int = 1) -> list[asyncio.Task[httpx.Response]]:
    """Requests that wait for a server which has just ended."""
    await end(worker)
    asked = [asyncio.create_task(router.post("/generate", BODY)) for _ in range(count)]
    await until(lambda: router.dispatcher.selector.restarts.waiting == count, "the requests wait")
    return asked


async def open_breaker(router: Serving, worker: FakeWorker, breaker: CircuitBreaker) -> Handler:
    """Let a server fail until its breaker opens; how it generated before."""
    before, worker.generate = worker.generate, broken
    while breaker.state == "closed":
        await router.post("/generate", BODY)
    return before


@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.parametrize("seeds", [(1, 2), (1, 1), (None, None)], ids=["another seed", "the same seed", "no seed"])
def test_a_request_waits_for_the_only_server(role: str, seeds: tuple[int | None, int | None]) -> None:
    @aio
    async def test() -> None:
        pair = faithful()
        worker: FakeWorker = getattr(pair, role)
        worker.info["random_seed"] = seeds[0]
        async with serving(pair, **WARM) as router:
            await ready(router)
            asked = await asked_without(router, worker, 3)
            assert router.registry.models() == [], "nothing is sent to it meanwhile"
            await begin(worker, seeds[1])
            answers = [await each for each in asked]
            assert [each.status_code for each in answers] == [200, 200, 200], answers[0].text
            await router.freed()

    test()


@aio
async def test_a_server_that_is_back_need_not_tell_what_it_serves_first() -> None:
    """`/server_info` waits for SGLang's scheduler, and for everybody else who asks."""
    pair, begin_telling = faithful(), asyncio.Event()
    pair.decode.info["random_seed"] = 1
    async with serving(pair, **WARM) as router:
        await ready(router)
        (asked,) = await asked_without(router, pair.decode)
        usual = pair.decode.server.handler

        async def slow(call: Call) -> None:
            if call.path != "/server_info" or await call.waits_for(begin_telling):
                await usual(call)

        pair.decode.server.handler = slow
        await begin(pair.decode, 2)
        assert (await asked).status_code == 200
        begin_telling.set()
        await until(lambda: router.registry.workers[1].report.process == "None 2", "it tells")
        assert (await router.post("/generate", BODY)).status_code == 200


@aio
async def test_one_of_those_that_wait_tries_a_server_that_is_back() -> None:
    """The router's own first generation may take long; the others wait until one of the two has succeeded."""
    pair, begin_all = faithful(), asyncio.Event()
    pair.decode.info["random_seed"] = 1
    async with serving(pair, **WARM) as router:
        await ready(router)
        asked = await asked_without(router, pair.decode, 3)
        usual, texts = pair.decode.generate, []

        async def generate(call: Call) -> None:
            texts.append(call.json.get("text"))
            if texts.count("Hello") == 1 and call.json.get("text") is not None:
                assert router.dispatcher.selector.restarts.waiting == 2, "one goes ahead"
                await usual(call)
            elif await call.waits_for(begin_all):
                await usual(call)

        pair.decode.generate = generate
        await begin(pair.decode, 2)
        await until(lambda: any(each.done() for each in asked), "one is answered")
        assert router.registry.models() == ["fake"], "the others may go"
        begin_all.set()
        assert [(await each).status_code for each in asked] == [200, 200, 200]
        await router.freed()


@aio
async def test_who_tries_in_vain_waits_with_the_others() -> None:
    pair, begin_all = faithful(), asyncio.Event()
    pair.decode.info["random_seed"] = 1
    async with serving(pair, **WARM | {"retries": RetrySettings(max_retries=3, initial_backoff_ms=1)}) as router:
        await ready(router)
        (asked,) = await asked_without(router, pair.decode)
        usual = pair.decode.generate

        async def generate(call: Call) -> None:
            if call.json.get("text") is not None and not begin_all.is_set():
                await broken(call)
            elif await call.waits_for(begin_all):
                await usual(call)

        pair.decode.generate = generate
        await begin(pair.decode, 2)
        await until(lambda: pair.decode.server.to("/generate")[-1].json.get("text") is not None, "it has tried")
        await until(lambda: router.dispatcher.selector.restarts.waiting == 1, "it waits again")
        begin_all.set()
        assert (await asked).status_code == 200
        await router.freed()


@aio
async def test_nothing_is_sent_to_a_server_that_is_back_with_another_model() -> None:
    pair, begin_telling = faithful(), asyncio.Event()
    async with serving(pair, **WARM, limits=AdmissionSettings(queue_timeout_secs=0.5)) as router:
        await ready(router)
        (asked,) = await asked_without(router, pair.decode)
        usual, sent = pair.decode.server.handler, len(pair.decode.requests)

        async def slow(call: Call) -> None:
            if call.path != "/server_info" or await call.waits_for(begin_telling):
                await usual(call)

        pair.decode.server.handler = slow
        pair.decode.info["served_model_name"] = "another"
        await begin(pair.decode, 2)
        assert "was not back within 0.5 s" in (await asked).text
        assert len(pair.decode.requests) == sent
        begin_telling.set()


REFUSAL = {"error": {"message": "no", "code": 400}}


@pytest.mark.parametrize("refused", [True, False])
def test_a_trial_in_vain_opens_a_server_for_nobody(refused: bool) -> None:
    """One that is refused in a stream of HTTP status 200, or that prefill ended during."""

    async def test() -> None:
        pair, begin_all, restart = faithful(), asyncio.Event(), asyncio.Event()
        async with serving(pair, **WARM | {"retries": RetrySettings(max_retries=3, initial_backoff_ms=1)}) as router:
            await ready(router)
            await end(pair.decode)
            body = {**BODY, "stream": True}
            asked = asyncio.create_task(router.post("/generate", body))
            await until(lambda: router.dispatcher.selector.restarts.waiting == 1, "it waits")

            async def generate(call: Call) -> None:
                pair.room(call).set()
                if call.json.get("text") is None:  # the router's own
                    if await call.waits_for(begin_all):
                        await pair.decoded(call)
                    return
                if not refused:
                    restart.set()
                    assert await call.waits_for(begun)
                await call.stream(REFUSAL if refused else {"text": "a", "meta_info": {}})
                await call.done()

            begun = asyncio.Event()
            pair.decode.generate = generate
            await begin(pair.decode, 2)
            if not refused:
                await restart.wait()
                router.registry.workers[0].health.restarts += 1  # as a probe does that finds another process
                begun.set()
            assert (await asked).status_code == (400 if refused else 200)
            assert router.registry.models() == []
            begin_all.set()

    run(test)


@aio
async def test_a_tree_waits_too(tmp_path: Path) -> None:
    pair = FakePair()
    pair.decode.info["random_seed"] = 1
    pair.decode.generate = native(pair)
    async with serving(pair, **WARM) as router:
        await ready(router)
        await end(pair.decode)
        router.registry.workers[1].health.suspected = True  # as after a request that failed
        await until(lambda: not router.registry.models(), "the router sees it")
        chat = {"model": "moa", "messages": [{"role": "user", "content": "Why?"}]}
        asked = asyncio.create_task(router.post("/v1/chat/completions", chat))
        await until(lambda: router.dispatcher.selector.restarts.waiting == 1, "the tree waits")
        await begin(pair.decode, 2)
        assert (await asked).status_code == 200


@aio
async def test_who_waits_is_bounded() -> None:
    pair = FakePair()
    limits = AdmissionSettings(queue_size=1, queue_timeout_secs=2)
    async with serving(pair, **WARM, limits=limits) as router:
        await ready(router)
        await end(pair.decode)
        first = asyncio.create_task(router.post("/generate", BODY))
        await until(lambda: router.dispatcher.selector.restarts.waiting == 1, "the first one waits")
        second = await router.post("/generate", BODY)
        assert second.status_code == 503
        assert "1 requests wait for it already" in second.text
        answer = await first
        assert answer.status_code == 503
        assert "was not back within 2 s" in answer.text
        assert answer.headers["retry-after"] == "1"
        assert router.dispatcher.selector.restarts.waiting == 0


@aio
async def test_a_client_that_leaves_waits_no_longer() -> None:
    pair = FakePair()
    async with serving(pair, **WARM) as router:
        await ready(router)
        await end(pair.decode)
        asked = asyncio.create_task(router.post("/generate", BODY))
        await until(lambda: router.dispatcher.selector.restarts.waiting == 1, "it waits")
        asked.cancel()
        await until(lambda: router.dispatcher.selector.restarts.waiting == 0, "it has left")


@pytest.mark.case("14.breaker")
@aio
async def test_public_case_a_new_process_closes_the_breaker() -> None:
    """The breaker's own timeout is a minute."""
    pair = FakePair()
    pair.prefill.info["random_seed"] = 1
    async with serving(pair, **WARM) as router:
        await ready(router)
        breaker = router.registry.workers[0].breaker
        answer = await open_breaker(router, pair.prefill, breaker)
        await end(pair.prefill)
        pair.prefill.generate = answer
        await begin(pair.prefill, 2)
        await until(lambda: breaker.state == "closed", "the new process is trusted")
        assert (await router.post("/generate", BODY)).status_code == 200


@aio
async def test_a_generation_closes_the_breaker_and_health_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "FIRST_TRIAL_SECS", 0.1)
    pair = FakePair()
    async with serving(pair, **WARM) as router:
        await ready(router)
        breaker = router.registry.workers[1].breaker
        answer = await open_breaker(router, pair.decode, breaker)
        tried = len(pair.decode.requests)
        await until(lambda: len(pair.decode.requests) > tried, "the router tries it")
        await until(lambda: breaker.state == "open", "it fails again")
        assert router.registry.workers[1].health.healthy, "it still says that it is well"
        pair.decode.generate = answer
        await until(lambda: breaker.state == "closed", "it generates", seconds=30)
        assert (await router.post("/generate", BODY)).status_code == 200


def test_trials_become_rarer() -> None:
    now = 1000.0
    breaker = CircuitBreaker(CircuitBreakerSettings(failure_threshold=1, timeout_secs=10), clock=lambda: now)
    waits = []
    for _ in range(6):
        breaker.record_outcome(breaker.begin_request(), success=False)
        opened = now
        while not breaker.begin_trial():
            now += 0.5
        waits.append(now - opened)
    assert waits == [1, 2, 4, 8, 10, 10]
    for _ in range(3):
        breaker.record_outcome(breaker.begin_request(), success=True)
    assert breaker.state == "closed"
    now += 1000
    breaker.record_outcome(breaker.begin_request(), success=False)
    now += 1
    assert breaker.begin_trial(), "a failure long after is a new one"
