"""Requests' bodies, and connections, are freed as soon as they are over, however that ended.

The garbage collector comes by only after some hundreds of requests, and a body may be half a gigabyte.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from router.dispatch.retries import RetrySettings
from router.http.body import Body
from router.http.client_request import ClientRequest as Asked
from router.http.disconnect import WATCH_DELAY
from router.http_client.connection import Connection
from router.moa.agent_call import AgentCall
from router.moa.run import Run
from router.server.connections.protocol import ClientProtocol
from router.server.settings import ServerSettings
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT as TREE
from tests.router.moa.test_tree_runs import Agents, refuses
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.raw import CHAT, connected, post
from tests.router.support.serving import Serving, serving

T = TypeVar("T")
SHORT = ServerSettings(request_timeout_secs=0.15)
TWICE = RetrySettings(max_retries=2, initial_backoff_ms=1)


async def hang(call: Call) -> None:
    await call.gone()


def answering(status: int) -> Callable[[Call], Awaitable[None]]:
    async def answer(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, status)

    return answer


async def drop(call: Call) -> None:
    call.drop()


async def half(call: Call) -> None:
    await call.stream({"choices": []})
    call.drop()


async def give_up(call: Call) -> None:
    await call.stream({"error": {"message": "no", "code": 500}})
    await call.done()


async def ask(router: Serving) -> None:
    await router.post("/v1/chat/completions", CHAT)


async def ask_for_a_stream(router: Serving) -> None:
    assert (await router.post("/v1/chat/completions", {**CHAT, "stream": True})).status_code == 502


async def ask_for_another_model(router: Serving) -> None:
    assert (await router.post("/v1/chat/completions", {**CHAT, "model": "none"})).status_code == 404


async def ask_wrongly(router: Serving) -> None:
    assert (await router.post("/v1/chat/completions", {**CHAT, "n": 200})).status_code == 400


async def ask_for_samples(router: Serving) -> None:
    await router.post("/v1/chat/completions", {**CHAT, "n": 3})


async def ask_for_streamed_samples(router: Serving) -> None:
    await router.post("/v1/chat/completions", {**CHAT, "n": 3, "stream": True})


async def leave(router: Serving) -> None:
    async with connected(router.port) as client:
        await client.send(post("/v1/chat/completions", CHAT))
        await until(lambda: bool(router.requests), "it came")
        await asyncio.sleep(0.02)
        client.vanish()
        await until(lambda: not router.requests, "it is over")


ENDINGS: dict[str, tuple[Callable[[Call], Awaitable[None]] | None, str, Callable[[Serving], Awaitable[None]]]] = {
    "well": (None, "decode", ask),
    "an unknown model": (None, "decode", ask_for_another_model),
    "a bad request": (None, "decode", ask_wrongly),
    "the client leaves": (hang, "both", leave),
    "prefill hangs": (hang, "prefill", ask),
    "decode hangs": (hang, "decode", ask),
    "prefill refuses": (answering(400), "prefill", ask),
    "decode refuses": (answering(400), "decode", ask),
    "prefill fails": (answering(503), "prefill", ask),
    "decode fails": (answering(503), "decode", ask),
    "prefill drops": (drop, "prefill", ask),
    "decode drops": (drop, "decode", ask),
    "half an answer": (half, "decode", ask),
    "decode gives up": (give_up, "decode", ask_for_a_stream),
    "several samples": (None, "decode", ask_for_streamed_samples),
    "samples in another form": (None, "decode", ask_for_samples),
    "samples that fail": (answering(503), "decode", ask_for_samples),
    "samples that drop": (drop, "decode", ask_for_samples),
    "samples that give up": (give_up, "decode", ask_for_streamed_samples),
    "samples that hang": (hang, "decode", ask_for_samples),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_body_waits_for_the_garbage_collector(ending: str) -> None:
    handler, role, asking = ENDINGS[ending]

    @aio
    async def test() -> None:
        pair = FakePair()
        for worker in (pair.prefill, pair.decode):
            if handler is not None and role in (worker.role, "both"):
                worker.generate = handler
        async with serving(pair, server=SHORT, retries=TWICE) as router:
            await asking(router)
            await router.settled()
            gc.collect()
            before = bodies()
            gc.disable()
            try:
                for _ in range(4):
                    await asking(router)
                await until(lambda: not router.requests, "all are over")
                await router.settled()
                await until(lambda: bodies() - before <= 1, "the watches are over, and one body is left")
            finally:
                gc.enable()

    test()


def bodies() -> int:
    """Bodies that are alive."""
    return len(alive(Body))


def closed_connections(but: list[Connection]) -> list[Connection]:
    """Connections to workers that are closed, and yet are there."""
    return [each for each in alive(Connection) if each.closed and each not in but]


def alive(kind: type[T]) -> list[T]:
    """Objects that are referred to, or wait for the garbage collector."""
    return [each for each in gc.get_objects() if isinstance(each, kind)]


@aio
async def test_no_connection_waits_for_the_garbage_collector() -> None:
    """Neither a client's nor a worker's, whoever ends it and whether it has brought an answer."""
    pair = FakePair()
    usual = pair.decode.generate
    async with serving(pair, server=SHORT) as router:

        async def take(*, vanishing: bool) -> None:
            async with connected(router.port) as client:
                await client.send(post("/v1/chat/completions", CHAT))
                assert await client.reader.readuntil(b"\r\n\r\n")
                if vanishing:
                    client.vanish()

        gc.collect()
        before = alive(Connection)  # pools of fixtures that live on hold some
        gc.disable()
        try:
            await take(vanishing=False)
            await take(vanishing=True)
            for handler in (drop, half, hang):
                pair.decode.generate = handler
                await (leave if handler is hang else ask)(router)
            pair.decode.generate = usual
            await router.http.aclose()
            await router.settled()
            await until(lambda: not router.connections, "no client is there")
            await until(lambda: not alive(ClientProtocol), "the watches' rounds are over, and no client is kept")
            await until(lambda: not closed_connections(but=before), "nor any connection that was closed")
        finally:
            gc.enable()


@aio
async def test_no_watched_request_waits_for_the_garbage_collector() -> None:
    """One that takes long enough for its client to be watched until its end, as most do."""
    pair = FakePair()
    usual = pair.decode.generate

    async def slowly(call: Call) -> None:
        await asyncio.sleep(3 * WATCH_DELAY)
        await usual(call)

    pair.prefill.generate, pair.decode.generate = answering(200), slowly
    async with serving(pair) as router:
        gc.collect()
        gc.disable()
        try:
            await ask(router)
            await router.settled()
            await until(lambda: not router.requests, "it is over")
            assert not alive(Asked)
        finally:
            gc.enable()


@pytest.mark.parametrize("ending", ["well", "refused"])
def test_no_run_waits_for_the_garbage_collector(ending: str, tmp_path: Path) -> None:
    """Its prompts may be long, and thirteen agents have one each."""

    async def test() -> None:
        agents = Agents()
        if ending == "refused":
            agents.answer = dict.fromkeys(("p1", "p2", "p3"), refuses)
        async with serving(agents.pair, trees=write_tree(tmp_path, retries=0)) as router:
            gc.collect()
            gc.disable()
            try:
                for _ in range(2):
                    await router.post("/v1/chat/completions", TREE)
                await router.settled()
                await until(
                    lambda: not any(isinstance(each, Run | AgentCall) for each in gc.get_objects()), "all is free"
                )
            finally:
                gc.enable()

    run(test)
