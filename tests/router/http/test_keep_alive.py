"""Comments in streams that say nothing for a while: between events, and no client notices."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from router.http.keep_alive import COMMENT, KeepAlive
from router.http.sse import EventStream
from router.server.settings import ServerSettings
from tests.router.support.aio import aio, until
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import SSE, Call, FakePair, chat_event, chunk, head
from tests.router.support.plain import PlainServer
from tests.router.support.serving import Serving, serving

OFTEN = ServerSettings(sse_keepalive_secs=0.005)
CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
FIRST = b"data: " + json.dumps(chat_event("one ")).encode() + b"\n\n"
LAST = b"data: " + json.dumps(chat_event("two", "stop")).encode() + b"\n\ndata: [DONE]\n\n"


class Paused(PlainServer):
    """Sends the pieces of a stream, each when it is told to."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.pieces, self.go, self.answer = pieces, asyncio.Semaphore(0), self._answer

    async def _answer(self, call: Call) -> None:
        await call.send(head(200, *SSE, ("transfer-encoding", "chunked")))
        for piece in self.pieces:
            await self.go.acquire()
            await call.send(chunk(piece))
        await call.send(chunk(b""))


async def received(router: Serving, server: Paused, waits: list[Callable[[bytes], bool]]) -> bytes:
    """A stream as the client got it: before each further piece is sent, what came must fulfil a condition."""
    got = bytearray()
    server.go.release()  # the head comes with the first piece
    async with router.http.stream("POST", "/v1/chat/completions", json={**CHAT, "model": "m"}) as response:
        pending = list(waits)
        async for piece in response.aiter_raw():
            got += piece
            while pending and pending[0](bytes(got)):
                pending.pop(0)
                server.go.release()
    return bytes(got)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_pause_is_filled(end: bytes) -> None:
    @aio
    async def test() -> None:
        first = FIRST.removesuffix(b"\n\n") + end
        server = Paused(first, LAST)
        async with BeforePlain([server], server=OFTEN) as before:
            got = await received(before.router, server, [lambda got: got.count(COMMENT) >= 3])
            assert got.startswith(first + COMMENT * 3), got
            assert got.replace(COMMENT, b"") == first + LAST
            await before.router.settled()

    test()


@aio
async def test_there_is_none_inside_an_event_nor_after_the_last() -> None:
    """An event may come in pieces, and the end of one in two."""
    pieces = FIRST[:9], FIRST[9:-1], FIRST[-1:], LAST, b""
    server = Paused(*pieces[:4])
    async with BeforePlain([server], server=OFTEN) as before:
        messages: list[bytes] = []

        async def paced() -> None:
            for number in range(1, 4):
                await until(lambda number=number: b"".join(messages).startswith(b"".join(pieces[:number])), "a piece")  # type: ignore[misc]
                if number == 3:
                    await until(lambda: messages[-1].endswith(COMMENT), "a comment after the event")
                else:
                    await asyncio.sleep(0.03)  # several intervals, in which nothing may come
                server.go.release()

        server.go.release()
        async with before.router.http.stream("POST", "/v1/chat/completions", json={**CHAT, "model": "m"}) as response:
            pacing = asyncio.create_task(paced())
            async for piece in response.aiter_raw():
                messages.append(piece)
        await pacing
        got = b"".join(messages)
        assert got.startswith(FIRST + COMMENT)
        assert got.endswith(LAST)
        assert got.replace(COMMENT, b"") == FIRST + LAST
        await before.router.settled()


@aio
async def test_the_openai_client_reads_on() -> None:
    server = Paused(FIRST, LAST)
    async with BeforePlain([server], server=OFTEN) as before:
        router = before.router
        async with openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none", max_retries=0) as client:
            server.go.release()
            texts: list[str] = []
            stream: Any = await client.chat.completions.create(model="m", **CHAT)  # type: ignore[call-overload]
            async for event in stream:
                texts.append(event.choices[0].delta.content)
                if len(texts) == 1:
                    await asyncio.sleep(0.03)  # so that comments come
                    server.go.release()
            assert texts == ["one ", "two"]
        await router.settled()


@aio
async def test_streams_of_pairs_too_and_whole_answers_have_none() -> None:
    pair, release = FakePair(), asyncio.Event()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        if not call.json.get("stream"):
            await call.waits_for(release)
            await call.answer({"text": "x"})
            return
        await call.stream(chat_event("one "))
        await call.waits_for(release)
        await call.done()

    pair.decode.generate = decode
    async with serving(pair, server=OFTEN) as router:
        whole = asyncio.create_task(router.post("/generate", {"text": "x"}))
        got = bytearray()
        async with router.http.stream("POST", "/v1/chat/completions", json={**CHAT, "model": "fake"}) as response:
            async for piece in response.aiter_raw():
                got += piece
                if COMMENT in got:
                    release.set()
        assert (await whole).content == b'{"text":"x"}'
        assert bytes(got).replace(COMMENT, b"").count(b"data: ") == 2
        await router.settled()


@aio
async def test_there_are_none_unasked() -> None:
    server = Paused(FIRST, LAST)
    async with BeforePlain([server]) as before:
        got = await received(before.router, server, [lambda got: got == FIRST])
        assert got == FIRST + LAST
        await before.router.settled()


@aio
async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    server = Paused(FIRST, LAST)
    async with BeforePlain([server], server=OFTEN) as before:
        server.go.release()
        async with before.router.http.stream("POST", "/v1/chat/completions", json={**CHAT, "model": "m"}) as response:
            async for piece in response.aiter_raw():
                if COMMENT in piece:
                    break
        await before.router.settled()


@aio
async def test_a_message_waits_for_the_comment_before_it() -> None:
    """As with a client that reads slowly: neither is sent in the middle of the other."""
    sent: list[bytes] = []
    gate = asyncio.Event()

    async def slow(message: Any) -> None:
        if message.get("body") == COMMENT:
            await gate.wait()
        if "body" in message:
            sent.append(message["body"])

    keep = KeepAlive(slow, 0.001)
    await keep({"type": "http.response.start", "headers": [(b"content-type", b"text/event-stream")]})
    await until(lambda: keep._comment is not None, "a comment is being sent")
    message = asyncio.create_task(keep({"type": "http.response.body", "body": b"data: x\n\n", "more_body": False}))
    await asyncio.sleep(0)
    gate.set()
    await message
    assert sent == [COMMENT, b"data: x\n\n"]


@aio
async def test_this_routers_own_reader_leaves_comments_out() -> None:
    async def chunks() -> Any:
        for each in (FIRST, COMMENT, COMMENT[:5], COMMENT[5:], LAST):
            yield each

    assert [json.loads(each) for each in [p async for p in EventStream(chunks()).payloads()]] == [
        chat_event("one "),
        chat_event("two", "stop"),
    ]
