"""The ASGI side, driven message by message."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.errors import BadRequest, RouterError, TooLarge
from router.http.asgi import AsgiRequest, ClientGone, Message
from router.http.disconnect import while_connected
from tests.router.support.aio import aio, run, until

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """Both ends of an ASGI server: what the client sends, and what it got."""

    def __init__(self, *messages: Message) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.got: list[Message] = []
        for message in messages:
            self.inbox.put_nowait(message)

    async def receive(self) -> Message:
        return await self.inbox.get()

    async def send(self, message: Message) -> None:
        self.got.append(message)
        if not message.get("more_body", True):
            self.inbox.put_nowait(GONE)  # as uvicorn reports a whole answer

    def request(self, max_body: int = 100) -> AsgiRequest:
        scope = {"type": "http", "method": "POST", "path": "/p", "headers": [(b"x-a", b"1"), (b"x-a", b"2")]}
        return AsgiRequest(scope, self.receive, self.send, max_body=max_body)


@aio
async def test_body_in_parts() -> None:
    request = Client(part(b"ab", more=True), part(b"", more=True), part(b"c")).request()
    assert await request.body() == b"abc"
    assert (request.header(b"x-a"), request.header(b"x-b")) == ("1", None)


@aio
async def test_the_limit_holds_over_all_parts() -> None:
    assert await Client(part(b"x" * 60, more=True), part(b"x" * 40)).request().body() == b"x" * 100
    with pytest.raises(TooLarge, match="over 100 bytes"):
        await Client(part(b"x" * 60, more=True), part(b"x" * 41, more=True)).request().body()


@aio
async def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    with pytest.raises(ClientGone):
        await Client(part(b"x", more=True), GONE).request().body()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"a": NaN}', "the body is not JSON"),
        (b"\xff{}", "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[]", "must be a JSON object, not a list"),
        (b'"x"', "must be a JSON object, not a string"),
        (b"null", "must be a JSON object, not null"),
        (b"true", "must be a JSON object, not a boolean"),
        (b"1.5", "must be a JSON object, not a number"),
    ],
)
def test_bodies_that_are_no_object(raw: bytes, words: str) -> None:
    async def test() -> None:
        with pytest.raises(BadRequest, match=words):
            await Client(part(raw)).request(max_body=9999).json()

    run(test)


@aio
async def test_streaming_an_answer() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    client = Client()
    request = client.request()
    assert not request.response_started
    await request.send_stream(chunks())
    assert request.response_started
    assert [message.get("status") for message in client.got] == [200, None, None, None]
    assert [message["body"] for message in client.got[1:]] == [b"a", b"b", b""]
    assert [message["more_body"] for message in client.got[1:]] == [True, True, False]


@aio
async def test_a_client_that_leaves_cancels_the_work() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)  # cleaning up takes time, and is waited for
            ended.append("cleaned up")

    client = Client()
    task = asyncio.create_task(while_connected(client.request(), work()))
    await asyncio.sleep(0.01)
    client.inbox.put_nowait(GONE)
    with pytest.raises(ClientGone):
        await task
    assert ended == ["cleaned up"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@aio
async def test_work_that_ends_first() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    await while_connected(Client().request(), work())
    assert done == [1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("error", [RouterError("no."), ValueError("odd")])
def test_errors_of_the_work_come_out(error: Exception) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    async def test() -> None:
        with pytest.raises(type(error)) as raised:
            await while_connected(Client().request(), work())
        assert raised.value is error
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


@aio
async def test_cancelling_from_outside_cancels_the_work() -> None:
    state: list[str] = []

    async def work() -> None:
        try:
            state.append("began")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            state.append("cancelled")
            raise

    task = asyncio.create_task(while_connected(Client().request(), work()))
    await until(lambda: state == ["began"], "the work began")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert state == ["began", "cancelled"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@aio
async def test_work_after_the_last_chunk_is_not_cut() -> None:
    """ASGI says `http.disconnect` after a whole answer too: cleaning up must not take it for a lost client."""
    done: list[str] = []
    client = Client()
    request = client.request()

    async def work() -> None:
        await request.send_response(200, b"{}")
        for _ in range(20):
            await asyncio.sleep(0.001)
        done.append("cleaned up")

    await while_connected(request, work())
    assert done == ["cleaned up"]


def message_types(client: Client) -> list[Any]:
    return [message["type"] for message in client.got]


@aio
async def test_answers_have_a_length() -> None:
    client = Client()
    await client.request().send_json({"a": 1}, 418)
    assert message_types(client) == ["http.response.start", "http.response.body"]
    assert client.got[0]["status"] == 418
    assert dict(client.got[0]["headers"])[b"content-length"] == b"7"
    assert client.got[1]["body"] == b'{"a":1}'
