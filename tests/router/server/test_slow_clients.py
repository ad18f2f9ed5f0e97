"""Clients that send, or read, as slowly as they can: none holds anything for ever, none holds up others."""

import asyncio
import socket

import orjson
import pytest

from router.server.admission import AdmissionSettings
from router.server.connections import timeouts as impatience
from router.server.settings import ServerSettings
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, Handler, chunk, head, whole
from tests.router.support.raw import CHAT, RawClient, connected, post
from tests.router.support.serving import Serving, serving

LIMIT = 0.2
FAST = ServerSettings(client_timeout_secs=LIMIT)
# With it, time is over when the test says so (`end_time`), however slow the machine is.
PATIENT = ServerSettings(client_timeout_secs=600)
ONE = AdmissionSettings(max_concurrent=1, queue_size=1)
REQUEST = post("/v1/chat/completions", CHAT)
HEAD = REQUEST.index(b"\r\n\r\n") + 2  # bytes, without the empty line at its end
TOO_SLOW = f"the request was not sent whole within {LIMIT:g} s; send it faster."


def read(answer: bytes) -> tuple[int, str]:
    """Status and error message of an answer."""
    top, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in top
    return int(top.split()[1]), orjson.loads(body)["error"]["message"]


def end_time(router: Serving) -> None:
    """The time of all requests that are not whole is over."""
    for each in [each for each in router.connections if each._receiving != "nothing"]:
        each._stop_request_timer()
        each._request_timed_out()


async def others_are_served(client: Serving) -> None:
    for _ in range(5):
        assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200


@pytest.mark.claim("time-is-bounded")
@aio
async def test_a_client_that_sends_nothing() -> None:
    async with serving(FakePair(), server=FAST) as router, connected(router.port) as client:
        assert await within(5.0, client.rest()) == b""


@pytest.mark.claim("time-is-bounded")
@pytest.mark.parametrize("begun", [b"G", REQUEST[:20], REQUEST[:HEAD]], ids=["method", "path", "headers"])
def test_a_head_that_never_ends(begun: bytes) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair(), server=FAST) as router, connected(router.port) as client:
            await client.send(begun)
            assert read(await within(5.0, client.rest())) == (408, TOO_SLOW)

    test()


@pytest.mark.parametrize("sent", [0, HEAD + 5], ids=["head", "body"])
def test_a_byte_at_a_time_holds_up_nobody(sent: int) -> None:
    """Although one request at a time is the limit: what is not whole has no place yet."""

    @aio
    async def test() -> None:
        pair = FakePair()
        async with serving(pair, server=PATIENT, limits=ONE) as router, connected(router.port) as client:
            await client.send(REQUEST[:sent])
            slow = asyncio.create_task(client.drip(REQUEST[sent:], 0.02))
            await until(lambda: any(each._receiving != "nothing" for each in router.connections), "it has begun")
            await others_are_served(router)
            assert not slow.done()
            end_time(router)
            status, words = read(await within(5.0, slow))
            assert (status, words) == (408, "the request was not sent whole within 600 s; send it faster.")
            await until(lambda: not router.requests, "the request is over")
            assert len(pair.decode.requests) == 5, "the slow one was not sent on"
            gate = router.limits.gate
            assert gate is not None
            assert (gate.running, gate.waiting) == (0, 0)

    test()


@aio
async def test_a_full_queue_refuses_before_the_body_is_there() -> None:
    release = asyncio.Event()
    pair = FakePair()

    async def decode(call: Call) -> None:
        await release.wait()
        await FakePair.decoded(pair, call)

    pair.decode.generate = decode
    limits = AdmissionSettings(max_concurrent=1, queue_size=0)
    async with serving(pair, limits=limits) as router, connected(router.port) as client:
        first = asyncio.create_task(router.post("/v1/chat/completions", CHAT))
        await until(lambda: len(pair.decode.requests) == 1, "one runs")
        await client.send(REQUEST[:-5])
        assert b" 429 " in await within(5.0, client.reader.readuntil(b"\r\n\r\n"))
        release.set()
        assert (await first).status_code == 200


@aio
async def test_a_line_break_after_an_answer_is_no_new_request() -> None:
    async with serving(FakePair(), server=FAST) as router, connected(router.port) as client:
        await client.send(REQUEST)
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"\r\n")
        assert b"HTTP/1.1" not in await within(3.0, client.rest()), "closed, without another answer"


@aio
async def test_a_long_body_may_take_longer_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatience, "MIN_BODY_BYTES", 10)
    pair = FakePair()
    async with serving(pair, server=PATIENT) as router, connected(router.port) as client:
        raw = post("/v1/chat/completions", {**CHAT, "padding": "x" * 200})
        begin = raw.index(b"\r\n\r\n") + 4
        await client.send(raw[:begin])
        await until(lambda: any(each._receiving == "body" for each in router.connections), "the head has come")
        (connection,) = router.connections
        for number in range(begin, len(raw) - 20, 20):
            await client.send(raw[number : number + 20])
            await until(lambda: connection._received >= 20, "a part of the body has come")
            end_time(router)
        await client.send(raw[number + 20 :])
        assert b" 200 " in await within(5.0, client.reader.readuntil(b"\r\n\r\n"))


@aio
async def test_a_head_without_end() -> None:
    async with serving(FakePair(), server=FAST) as router, connected(router.port) as client:
        await client.send(b"GET /health HTTP/1.1\r\n")
        flood = asyncio.create_task(_flood(client))
        status, words = read(await within(5.0, client.rest()))
        assert (status, words) == (431, "the request's head is over 65536 bytes; send fewer or shorter headers.")
        await within(5.0, flood)


async def _flood(client: RawClient) -> None:
    try:
        while True:
            await client.send(b"x-more: %b\r\n" % (b"x" * 1000))
    except ConnectionError:
        pass


@pytest.mark.parametrize("behind", [b"P", REQUEST[:-3], REQUEST + REQUEST[:-3]], ids=["head", "body", "third"])
def test_what_comes_behind_an_answered_request_does_not_cut_it(behind: bytes) -> None:
    """Pipelining: a client need not send its next request whole while it waits for an answer."""
    release = asyncio.Event()
    pair = FakePair()

    async def decode(call: Call) -> None:
        await release.wait()
        await FakePair.decoded(pair, call)

    @aio
    async def test() -> None:
        pair.decode.generate = decode
        async with serving(pair, server=FAST) as router, connected(router.port) as client:
            await client.send(REQUEST + behind)
            await asyncio.sleep(3 * LIMIT)
            release.set()
            assert b" 200 " in await within(3.0, client.reader.readuntil(b"\r\n\r\n"))
            assert b"one two" in await within(3.0, client.reader.readuntil(b"}}"))

    test()


async def _endless(call: Call) -> None:
    await call.send(head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")))
    while True:
        await call.send(chunk(b"data: " + b"x" * 65536 + b"\n\n"))


async def _much_then_nothing(call: Call) -> None:
    await call.send(head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")))
    for _ in range(200):
        await call.send(chunk(b"data: " + b"x" * 65536 + b"\n\n"))
    await call.gone()


@pytest.mark.claim("time-is-bounded")
@pytest.mark.parametrize("decode", [_endless, _much_then_nothing])
@pytest.mark.parametrize("timeout", [0.1, 60.0])
def test_a_client_that_reads_nothing(decode: Handler, timeout: float) -> None:
    """Not even when the request's own time is over, and its error cannot be sent, does it keep its place."""

    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = decode
        settings = ServerSettings(client_timeout_secs=LIMIT, request_timeout_secs=timeout)
        async with serving(pair, server=settings, limits=ONE) as router, connected(router.port) as client:
            await client.send(post("/v1/chat/completions", {**CHAT, "stream": True}))
            await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
            await until(lambda: len(pair.decode.aborted) == len(pair.prefill.aborted) == 1, "both were told")
            gate = router.limits.gate
            assert gate is not None
            await until(lambda: gate.running == 0, "its place is free")
            await until(lambda: not router.connections, "its connection is closed")
            await router.freed()

    test()


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
def test_a_whole_answer_that_nobody_takes(keep: bool) -> None:
    """Its rest waits in the router's memory, with or without a connection to be used again."""

    async def decode(call: Call) -> None:
        await call.send(whole(b"x" * (64 << 20)))

    @aio
    async def test() -> None:
        pair = FakePair()
        pair.decode.generate = decode
        async with serving(pair, server=FAST) as router, connected(router.port) as client:
            await client.send(REQUEST if keep else REQUEST.replace(b"host: x", b"host: x\r\nconnection: close"))
            await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
            await until(lambda: not router.connections, "its connection is closed", 8.0)

    test()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_who_reads_slowly_gets_all(stream: bool) -> None:
    """Longer than the limit, since some of it is taken all the time."""
    size = 6 << 20
    limit = 1.0

    async def decode(call: Call) -> None:
        pair.room(call).set()
        if stream:
            await call.send(head(200, ("content-type", "text/event-stream"), ("content-length", str(size))))
            for _ in range(size >> 20):
                await call.send(b"data: " + b"x" * ((1 << 20) - 8) + b"\n\n")
        else:
            await call.send(whole(b"x" * size))

    pair = FakePair()
    pair.decode.generate = decode

    @aio
    async def test() -> None:
        server = ServerSettings(client_timeout_secs=limit)
        async with serving(pair, server=server) as router, connected(router.port, buffer=1 << 16) as client:
            await until(lambda: len(router.connections) == 1, "it is connected")
            (connection,) = router.connections
            # Else the system takes MBs at once, and the router does not see each read.
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            await client.send(REQUEST.replace(b"host: x", b"host: x\r\nconnection: close"))
            began = asyncio.get_running_loop().time()
            got = 0
            while part := await client.reader.read(1 << 16):
                got += len(part)
                await asyncio.sleep(0.015)
            assert got > size
            assert asyncio.get_running_loop().time() - began > limit

    test()
