"""`/drain`: what is under way ends, and nothing new begins, in one process or several (the workers are fakes)."""

import asyncio
from pathlib import Path

import pytest

from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving, together

BODY = {"text": "x"}


def held(pair: FakePair) -> asyncio.Event:
    """Let decode answer only after an event."""
    release, decode = asyncio.Event(), pair.decode.generate

    async def waits(call: Call) -> None:
        await release.wait()
        await decode(call)

    pair.decode.generate = waits
    return release


async def drains(router: Serving, *others: Serving) -> tuple[bool, int]:
    """What it says when all that was answered is over."""
    for each in (router, *others):
        await each.answered()
    told = (await router.http.get("/drain")).json()
    return told["draining"], told["requests_left"]


@aio
async def test_what_is_under_way_ends_and_nothing_new_begins() -> None:
    pair = FakePair()
    release = held(pair)
    async with serving(pair) as router:
        assert await drains(router) == (False, 0)
        running = asyncio.create_task(router.post("/generate", BODY))
        await until(lambda: len(pair.decode.requests) == 1, "it is under way")
        assert (await router.http.post("/drain")).json() == {"draining": True, "requests_left": 1}
        for path in ("/generate", "/v1/chat/completions", "/v1/tokenize"):
            answer = await router.post(path, {**BODY, "model": "fake", "messages": [], "prompt": "x"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
            assert "the router is being drained and takes no new requests" in answer.text
        ready = await router.http.get("/readiness")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
        for path in ("/liveness", "/health", "/workers", "/metrics"):
            assert (await router.http.get(path)).status_code == 200, path
        release.set()
        assert (await running).status_code == 200
        assert await drains(router) == (True, 0)
        assert (await router.http.delete("/drain")).json() == {"draining": False, "requests_left": 0}
        assert (await router.http.get("/readiness")).status_code == 200
        assert (await router.post("/generate", BODY)).status_code == 200
        await router.settled()


@aio
async def test_all_processes_drain(tmp_path: Path) -> None:
    pair = FakePair()
    release = held(pair)
    async with together(pair, folder=tmp_path, count=3) as routers:
        running = [asyncio.create_task(router.post("/generate", BODY)) for router in routers[:2]]
        await until(lambda: len(pair.decode.requests) == 2, "both are under way")
        assert (await routers[2].http.post("/drain")).json() == {"draining": True, "requests_left": 2}
        for router in routers:
            assert (await router.post("/generate", BODY)).status_code == 503
            assert (await router.http.get("/readiness")).status_code == 503
        release.set()
        assert [(await each).status_code for each in running] == [200, 200]
        assert await drains(*routers) == (True, 0)
        await routers[1].http.delete("/drain")
        for router in routers:
            assert (await router.post("/generate", BODY)).status_code == 200
            await router.settled()


@pytest.mark.parametrize("draining", [True, False])
def test_a_process_that_replaces_one_follows_the_others(draining: bool, tmp_path: Path) -> None:
    async def other(call: Call) -> None:
        await call.answer([] if call.path != "/drain" else {"draining": draining, "requests_left": 0})

    async def nonsense(call: Call) -> None:
        await call.answer([])

    async def test() -> None:
        fakes = [nonsense, other]
        async with together(FakePair(), folder=tmp_path, count=1, fakes=fakes, again=True) as (router,):
            assert (await router.post("/generate", BODY)).status_code == (503 if draining else 200)
            await router.settled()

    run(test)


def test_a_process_that_is_silent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections would go on to be answered."""

    async def hangs(call: Call) -> None:
        await call.gone()

    async def test() -> None:
        async with together(FakePair(), folder=tmp_path, count=1, fakes=[hangs]) as (router,):
            answer = await router.http.post("/drain")
            assert answer.status_code == 503
            assert "process 1 of the router does not answer; try again." in answer.text

    monkeypatch.setattr("router.server.processes.peers.COLLECT_TIMEOUT", 0.2)
    run(test)
