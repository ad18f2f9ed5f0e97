"""Servers that take requests and say nothing: who only is busy goes on, who does not work loses its requests.

(Fakes: a real server does not hang at a chosen moment.)
"""

import asyncio
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.dispatch import background_posts
from router.dispatch.retries import RetrySettings
from router.server.admission import AdmissionSettings
from router.workers import wedge_watch
from router.workers.registry import Registry
from router.workers.wedge_watch import WedgeSettings
from router.workers.worker import Worker
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT, Agents
from tests.router.support.aio import aio, until, within
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call, FakePair, Handler, chat_event, whole
from tests.router.support.plain import PlainServer
from tests.router.support.serving import Serving, serving

BODY = {"text": "x"}
SOON = WedgeSettings(silent_secs=0.05)
RETRIES = RetrySettings(initial_backoff_ms=1, max_backoff_ms=5)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wedge_watch, "ANSWER_SECS", 0.1)
    monkeypatch.setattr(wedge_watch, "ASK_AGAIN_SECS", 0.02)
    monkeypatch.setattr(background_posts, "POST_TIMEOUT", 0.1)


class Stuck:
    """A server's engine: stuck, it answers nothing that needs it. `paths` are those that hang."""

    def __init__(self, server: Any, *paths: str) -> None:
        self.stuck = True
        self.asked = 0
        self._paths = paths
        self._handle = server.handler
        server.handler = self.handle

    async def handle(self, call: Call) -> None:
        is_question = call.path == "/health_generate"
        self.asked += is_question
        if self.stuck and (not self._paths or call.path in self._paths):
            await call.gone()
        elif is_question:
            await call.answer({})
        else:
            await self._handle(call)


def generating(server: PlainServer) -> PlainServer:
    """Let a server answer `/generate`."""

    async def answer(call: Call) -> None:
        await call.answer({"text": "one"})

    server.answer = answer
    return server


def decode_waits_for_prefill(*pairs: FakePair) -> None:
    """As a real decode server, which waits for the prompt's KV."""
    sent: dict[int, asyncio.Event] = defaultdict(asyncio.Event)

    def wrapped(pair: FakePair) -> tuple[Handler, Handler]:
        prefilled, decoded = pair.prefill.generate, pair.decode.generate

        async def prefill(call: Call) -> None:
            sent[call.json["bootstrap_room"]].set()
            await prefilled(call)

        async def decode(call: Call) -> None:
            pair.room(call).set()
            if await call.waits_for(sent[call.json["bootstrap_room"]]):
                await decoded(call)

        return prefill, decode

    for pair in pairs:
        pair.prefill.generate, pair.decode.generate = wrapped(pair)


def by_url(router: Serving, url: str) -> Worker:
    return next(worker for worker in router.registry.workers if worker.url == url)


@pytest.mark.parametrize("paths", [("/generate", "/health_generate"), ()], ids=["the engine", "the whole process"])
def test_its_requests_go_elsewhere(paths: tuple[str, ...]) -> None:
    @aio
    async def test() -> None:
        servers = [generating(PlainServer()), generating(PlainServer())]
        async with BeforePlain(servers, policy="passthrough", wedges=SOON, retries=RETRIES) as before:
            engine, router = Stuck(servers[0], *paths), before.router
            answer = await within(5.0, router.post("/generate", BODY))
            assert answer.status_code == 200
            worker = by_url(router, servers[0].url)
            assert worker.health.wedged is not None
            assert "took requests, said nothing for" in worker.health.wedged
            told = (await router.http.get("/workers")).json()["workers"][0]
            assert (told["wedged"], told["problem"]) == (True, worker.health.wedged)
            assert f'moa_worker_wedged{{worker="{servers[0].url}"}} 1.0' in (await router.http.get("/metrics")).text
            sent = len(servers[1].asked)
            assert (await router.post("/generate", BODY)).status_code == 200
            assert len(servers[1].asked) == sent + 1
            engine.stuck = False
            await until(lambda: worker.health.wedged is None, "it works again")
            assert (await router.post("/generate", BODY)).status_code == 200
            assert len(servers[1].asked) == sent + 1, "it is used again"
            await router.settled()

    test()


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_of_a_pair_the_one_that_is_stuck(role: str) -> None:
    @aio
    async def test() -> None:
        pair, other = FakePair(), FakePair()
        other.rooms = pair.rooms
        decode_waits_for_prefill(pair, other)
        for worker in (pair.prefill, pair.decode, other.prefill, other.decode):
            Stuck(worker.server).stuck = False
        server = getattr(pair, role).server
        stuck = Stuck(server, "/v1/chat/completions", "/health_generate")
        async with serving(pair, other, policy="passthrough", wedges=SOON, retries=RETRIES) as router:
            answer = await within(5.0, router.post("/v1/chat/completions", {**CHAT, "model": "fake", "stream": True}))
            assert answer.status_code == 200
            assert [worker.url for worker in router.registry.workers if worker.health.wedged] == [server.url]
            stuck.stuck = False
            await router.settled()

    test()


@aio
async def test_a_stream_that_has_begun_ends_with_an_error() -> None:
    server = PlainServer()

    async def answer(call: Call) -> None:
        await call.stream(chat_event("one"))
        await call.gone()

    server.answer = answer
    async with BeforePlain([server], wedges=SOON, retries=RETRIES) as before:
        Stuck(server, "/health_generate")
        told = await within(5.0, before.router.post("/v1/chat/completions", {**CHAT, "model": "m", "stream": True}))
        assert told.status_code == 200
        assert "stopped working before its answer was whole" in told.text
        assert told.text.endswith("data: [DONE]\n\n")
        await before.router.settled()


@pytest.mark.parametrize("question", ["answered", "503 at once", "unknown path"])
def test_who_is_busy_goes_on(question: str) -> None:
    @aio
    async def test() -> None:
        server, release, asked = PlainServer(), asyncio.Event(), 0

        async def answer(call: Call) -> None:
            nonlocal asked
            if call.path == "/health_generate":
                asked += 1
                status = {"answered": 200, "503 at once": 503, "unknown path": 404}[question]
                await call.send(whole(b"", status))
            elif await call.waits_for(release):
                await call.answer({"text": "late"})

        server.answer = answer
        async with BeforePlain([server], wedges=SOON, retries=RETRIES) as before:
            request = asyncio.create_task(before.router.post("/generate", BODY))
            await until(lambda: asked >= 2, "it is asked, and asked again")
            assert before.router.registry.workers[0].health.usable
            release.set()
            assert (await request).json() == {"text": "late"}
            await before.router.settled()

    test()


@aio
async def test_a_byte_of_any_response_says_that_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes while it is being asked."""
    monkeypatch.setattr(wedge_watch, "ANSWER_SECS", 3600.0)
    server, asked, silent = PlainServer(), asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> None:
        if call.path == "/health_generate":
            asked.set()
            await call.gone()
            silent.set()
            return
        await call.stream(chat_event("one"))
        await call.waits_for(asked)
        await call.event(chat_event("two", "stop"))
        await call.waits_for(silent)
        await call.done()

    server.answer = answer
    async with BeforePlain([server], wedges=SOON, retries=RETRIES) as before:
        told = await within(5.0, before.router.post("/v1/chat/completions", {**CHAT, "model": "m", "stream": True}))
        assert "two" in told.text
        assert silent.is_set(), "the question was taken back"
        await before.router.settled()


@aio
async def test_one_bad_answer_condemns_nobody_nor_do_more_where_it_spoke_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter((False, True, False, False, False, False))
    worker = Worker("http://127.0.0.1:1", "plain")
    worker.load.requests = 1
    watch = wedge_watch.WedgeWatch(Registry([worker]), SOON)

    async def works(_: Worker) -> bool:
        return next(answers)

    monkeypatch.setattr(wedge_watch, "_works", works)
    for heard in (False, False, False, True):
        worker.load.hear() if heard else worker.load.forget_heard()
        await watch._question(worker, 1.0)
        assert worker.health.wedged is None
    worker.load.forget_heard()
    worker.load.requests = 0
    await watch._question(worker, 1.0)
    assert worker.health.wedged is None, "it has nothing to answer any more"
    worker.load.requests = 1
    await watch._question(worker, 1.0)
    assert worker.health.wedged is not None


@aio
async def test_where_there_is_no_other_server_requests_wait_and_then_fail() -> None:
    server = PlainServer()
    limits = AdmissionSettings(queue_timeout_secs=0.1)
    async with BeforePlain([server], wedges=SOON, retries=RETRIES, limits=limits) as before:
        Stuck(server, "/generate", "/health_generate")
        answer = await within(5.0, before.router.post("/generate", BODY))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        await before.router.settled()


@aio
async def test_other_engines_are_asked_for_their_models() -> None:
    server, release = PlainServer(sglang=False), asyncio.Event()

    async def answer(call: Call) -> None:
        await call.waits_for(release)
        await call.answer({"choices": []})

    server.answer = answer
    async with BeforePlain([server], wedges=SOON, retries=RETRIES) as before:
        asked = len(server.calls)
        request = asyncio.create_task(before.router.post("/v1/chat/completions", {**CHAT, "model": "m"}))
        await until(lambda: len(server.calls) >= asked + 3, "it is asked")
        assert {call.path for call in server.calls[asked:]} == {"/v1/chat/completions", "/v1/models"}
        release.set()
        assert (await request).status_code == 200
        await before.router.settled()


@pytest.mark.parametrize("arm", ["tree", "splice"])
def test_agents_of_trees_go_elsewhere_too(arm: str, tmp_path: Path) -> None:
    @aio
    async def test() -> None:
        agents, stuck = Agents(), FakePair()
        stuck.rooms = agents.pair.rooms
        async with serving(
            stuck, agents.pair, trees=write_tree(tmp_path, arm=arm, retries=1), policy="passthrough", wedges=SOON
        ) as router:
            for worker in (stuck.prefill, stuck.decode):
                Stuck(worker.server, "/generate", "/health_generate")
            for worker in (agents.pair.prefill, agents.pair.decode):
                Stuck(worker.server, "/health_generate").stuck = False
            answer = await within(5.0, router.post("/v1/chat/completions", CHAT))
            assert answer.status_code == 200, answer.text
            await router.settled()

    test()


@pytest.mark.parametrize("off", ["flag", "no checks"])
def test_nobody_is_asked_where_that_is_turned_off(off: str) -> None:
    @aio
    async def test() -> None:
        server, release = PlainServer(), asyncio.Event()

        async def answer(call: Call) -> None:
            await call.waits_for(release)
            await call.answer({})

        server.answer = answer
        wedges = WedgeSettings(silent_secs=0) if off == "flag" else SOON
        async with BeforePlain([server], wedges=wedges) as before:
            worker = before.router.registry.workers[0]
            if off == "no checks":
                worker.configure(worker.config, None, replace(worker.health.settings, disable_checks=True))
            request = asyncio.create_task(before.router.post("/generate", BODY))
            await until(lambda: worker.load.requests == 1, "it is sent")
            await asyncio.sleep(0.2)  # nothing happens in this time
            assert [call.path for call in server.asked] == ["/generate"]
            release.set()
            assert (await request).status_code == 200
            await before.router.settled()

    test()
