"""Faults of workers and clients, seen from outside the router: whatever happens, nothing is left behind.

The workers are fakes: only they hang, or reset a connection after a byte that a test names. What the same faults do to
a real pair is tested in tests/e2e/test_faults.py and test_kills.py.
"""

import asyncio
import resource
import signal
from typing import Literal

import httpx
import orjson
import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.dispatch.retries import RetrySettings
from router.server.settings import ServerSettings
from tests.router.server.test_app import data_lines
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakePair, chat_event, chunk, head, started, whole
from tests.router.support.processes import free_port, router, wait_for
from tests.router.support.raw import CHAT, connected, post, reset
from tests.router.support.serving import serving

Role = Literal["prefill", "decode"]
BOTH: tuple[Role, Role] = ("prefill", "decode")
SHORT = ServerSettings(request_timeout_secs=0.15)


async def hang(call: Call) -> None:
    await call.gone()


def hanging(*roles: Role) -> FakePair:
    pair = FakePair()
    for role in roles:
        getattr(pair, role).generate = hang
    return pair


# Hangs: accepted, never answered


@pytest.mark.claim("workers-may-misbehave")
@pytest.mark.parametrize("roles", [("prefill",), ("decode",), BOTH])
@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_ends_at_the_time_limit(roles: tuple[Role, ...], stream: bool) -> None:
    """Of a whole answer and of a stream alike: before its first piece a stream has no status line."""

    async def decode(call: Call) -> None:
        await call.stream()
        await call.gone()

    @aio
    async def test() -> None:
        pair = hanging(*roles)
        if "decode" not in roles:
            pair.decode.generate = decode
        async with serving(pair, server=SHORT) as client:
            answer = await within(3.0, client.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout")
            await client.freed()
            assert [len(pair.prefill.aborted), len(pair.decode.aborted)] == [1, 1]

    test()


@pytest.mark.parametrize("roles", [("prefill",), ("decode",), BOTH])
def test_a_client_that_leaves_a_hang(roles: tuple[Role, ...]) -> None:
    async def decode(call: Call) -> None:
        await call.stream(chat_event("one"))
        await call.gone()

    @aio
    async def test() -> None:
        pair = hanging(*roles)
        if "decode" not in roles:
            pair.decode.generate = decode
        async with serving(pair) as client, connected(client.port) as leaving:
            await leaving.send(post("/v1/chat/completions", {**CHAT, "stream": True}))
            await until(lambda: len(pair.prefill.requests) == len(pair.decode.requests) == 1, "both were asked")
            leaving.vanish()
            await until(lambda: len(pair.prefill.aborted) == len(pair.decode.aborted) == 1, "both were told")
            await client.freed()

    test()


# Resets after k bytes

STREAM = head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")) + b"".join(
    chunk(b"data: " + orjson.dumps(event) + b"\n\n") for event in (chat_event("one "), chat_event("two", "stop"))
)
ENDED_STREAM = STREAM + chunk(b"data: [DONE]\n\n") + chunk(b"")
WHOLE = whole(b'{"text": "one two"}', 200, ("content-type", "application/json"))


@settings(deadline=None)
@given(k=st.integers(0, len(ENDED_STREAM)), stream=st.booleans())
@example(k=len(ENDED_STREAM), stream=True)
@example(k=len(STREAM), stream=True)
@example(k=ENDED_STREAM.index(b"[DONE]") + 6, stream=True)
@example(k=len(WHOLE), stream=False)
@example(k=0, stream=False)
def test_decode_resets_after_k_bytes(k: int, stream: bool) -> None:
    """The client gets a whole answer, an honest status, or whole events and an error; never half of anything."""
    raw = (ENDED_STREAM if stream else WHOLE)[:k]

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.send(raw)
        await asyncio.sleep(0.002)
        reset(call.writer)

    pair = FakePair()
    pair.decode.generate = decode

    @aio
    async def test() -> None:
        async with serving(pair) as client:
            answer = await within(3.0, client.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            complete = len(raw) == len(ENDED_STREAM if stream else WHOLE)
            if answer.status_code == 502:
                assert not complete
                assert "closed the connection" in answer.json()["error"]["message"]
            elif stream:
                told = data_lines(answer.text)
                events = [orjson.loads(event) for event in told[: told.index("[DONE]")]]
                done = b"[DONE]\n" in raw  # a line that is not whole is not passed on
                assert all("choices" in event for event in (events if done else events[:-1]))
                assert ("error" in events[-1]) is not done
            else:
                assert complete
                assert answer.json() == {"text": "one two"}
            await client.freed()
            assert len(pair.decode.aborted) == len(pair.prefill.aborted) == (not complete)

    test()


@settings(deadline=None)
@given(k=st.integers(0, len(WHOLE) - 1), stream=st.booleans(), late=st.booleans())
def test_prefill_resets_after_k_bytes(k: int, stream: bool, late: bool) -> None:
    """Before or after decode's answer began: without prefill's the request has failed."""
    begun = asyncio.Event()

    async def prefill(call: Call) -> None:
        await call.send(WHOLE[:k])
        if late and stream:
            await begun.wait()
        await asyncio.sleep(0.002)
        reset(call.writer)

    async def decode(call: Call) -> None:
        if late and stream:
            await call.stream(chat_event("one "))
            begun.set()
        await call.gone()

    pair = FakePair()
    pair.prefill.generate, pair.decode.generate = prefill, decode

    @aio
    async def test() -> None:
        async with serving(pair) as client:
            answer = await within(3.0, client.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            if answer.status_code == 200:
                assert stream
                assert late
                *_, error, done = data_lines(answer.text)
                assert pair.prefill.url in orjson.loads(error)["error"]["message"]
                assert done == "[DONE]"
            else:
                assert answer.status_code == 502
                assert pair.prefill.url in answer.json()["error"]["message"]
            await client.freed()
            assert len(pair.decode.aborted) == len(pair.prefill.aborted) == 1

    test()


@aio
async def test_a_reset_that_another_worker_makes_good() -> None:
    """With retries, a client does not notice one worker that always resets before its first event."""
    good, bad = FakePair(), FakePair()

    async def decode(call: Call) -> None:
        await call.send(STREAM[:60])
        reset(call.writer)

    bad.decode.generate = decode
    bad.rooms = good.rooms
    retries = RetrySettings(initial_backoff_ms=1, max_backoff_ms=2)
    async with serving(good, bad, policy="round_robin", retries=retries) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", {**CHAT, "stream": number % 2 == 0}) for number in range(20))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len(bad.decode.requests) >= 10
        await client.freed()


# Many clients at once


@aio
async def test_400_clients_vanish_at_once() -> None:
    """Half of them while they wait for a first byte, half in the middle of their streams."""
    vanishing = 400
    pair = FakePair()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        if call.json["stream"]:
            await call.stream(chat_event("one "))
        await call.gone()

    well = pair.decode.generate
    pair.decode.generate = decode
    async with serving(pair) as client:
        writers = []
        for number in range(vanishing):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(post("/v1/chat/completions", {**CHAT, "stream": number % 2 == 0}))
            writers.append(writer)
        await until(lambda: len(pair.decode.requests) == vanishing, "all were sent on")
        info = (await client.http.get("/get_server_info")).json()["workers"]
        assert [worker["in_flight"] for worker in info if worker["role"] == "decode"] == [vanishing]
        for writer in writers:
            reset(writer)
        await until(lambda: len(pair.decode.aborted) == len(pair.prefill.aborted) == vanishing, "all were aborted")
        assert len(set(pair.decode.aborted)) == vanishing
        await until(lambda: not client.requests, "no request is left")
        info = (await client.http.get("/get_server_info")).json()["workers"]
        assert [worker["in_flight"] for worker in info] == [0, 0]
        assert all(worker.breaker.state == "closed" for worker in client.registry.workers)
        pair.decode.generate = well
        assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
        await client.freed()


# A router that dies


def test_a_router_killed_with_traffic() -> None:
    """Clients that try again get their answers from the next one; the first leaves no connection behind."""
    run(_killed_with_traffic)


async def _killed_with_traffic() -> None:
    pair = FakePair()
    port = free_port()
    stop = asyncio.Event()
    served = 0

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await asyncio.sleep(0.05)
        await call.event(chat_event("two", "stop"))
        await call.done()

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal served
        while not stop.is_set():
            try:
                answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == 200 and answer.text.endswith("[DONE]\n\n"):
                served += 1

    pair.decode.generate = decode
    async with started(pair), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        flags = ["--pd-disaggregation", "--prefill", pair.prefill.url, "1", "--decode", pair.decode.url]
        flags += ["--host", "127.0.0.1", "--port", str(port), "--skip-warm-up", "--log-level", "error"]
        servers = [pair.prefill.server, pair.decode.server]
        clients = [asyncio.create_task(client(http)) for _ in range(8)]
        for life in range(2):
            process = router(*flags)
            try:
                await asyncio.to_thread(wait_for, f"http://127.0.0.1:{port}/readiness", process)
                before = served
                await until(lambda before=before: served > before + 20, "clients are served", 10)  # type: ignore[misc]
                assert any(server.open for server in servers)
                if life == 1:
                    stop.set()
                    await within(5.0, asyncio.gather(*clients))
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait, 60)
                await until(lambda: not any(server.open for server in servers), "no connection of it is left")
            finally:
                process.kill()
                process.communicate()


def test_a_router_may_open_as_many_files_as_the_system_lets_it() -> None:
    """A request takes three connections: with a shell's usual limit of 1024, 400 of them would be too many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    port = free_port()
    process = router("--worker-urls", "http://127.0.0.1:1", "--port", str(port), files=256)
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
        assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE) == (most, most)
    finally:
        process.kill()
        process.communicate()
