"""Answers as their bytes: those that go out at once, and who is told to have asked."""

import asyncio
from typing import Any
from unittest import mock

import httpx
import orjson
import pytest

from router.http.asgi import Receive, Scope, Send
from router.server.connections import protocol
from router.server.connections.proxy_headers import with_proxy_headers
from tests.router.support.aio import aio, within
from tests.router.support.fakes import FakePair
from tests.router.support.raw import CHAT, RawClient, connected, post
from tests.router.support.serving import serving

LAST = b"GET /liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def answers(client: RawClient, raw: bytes) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Status, headers and body of each answer to some requests, the last of which closes the connection."""
    await client.send(raw)
    rest = await within(5.0, client.rest())
    found = []
    while rest:
        top, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = top.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        length = int(headers[b"content-length"])
        found.append((int(first.split()[1]), headers, rest[:length]))
        rest = rest[length:]
    return found


@aio
async def test_requests_in_a_row_are_answered_in_order() -> None:
    async with serving(FakePair()) as router, connected(router.port) as client:
        names = [b"x-request-id: %d" % number for number in range(3)]
        raw = post("/v1/chat/completions", CHAT).replace(b"host: x", names[0])
        raw += b"GET /nowhere HTTP/1.1\r\n%b\r\n\r\n" % names[1] + LAST.replace(b"host: x", names[2])
        found = await answers(client, raw)
        assert [status for status, _, _ in found] == [200, 404, 200]
        assert [headers[b"x-request-id"] for _, headers, _ in found] == [b"0", b"1", b"2"]
        assert orjson.loads(found[0][2])["text"] == "one two"
        assert found[2][1][b"connection"] == b"close"


@aio
async def test_one_request_after_the_other_on_one_connection() -> None:
    """Each of these answers goes out at once; those to requests in one packet, but for the last, do not."""
    async with serving(FakePair()) as router, connected(router.port) as client:
        for raw, status in [(post("/v1/chat/completions", CHAT), 200), (post("/v1/chat/completions", []), 400)] * 2:
            await client.send(raw)
            top = await within(5.0, client.reader.readuntil(b"\r\n\r\n"))
            assert top.startswith(b"HTTP/1.1 %d" % status)
            length = int(top.partition(b"content-length: ")[2].split(b"\r")[0])
            orjson.loads(await within(5.0, client.reader.readexactly(length)))


def chunked(body: bytes) -> bytes:
    """A request whose body has no announced length."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@aio
async def test_a_body_may_come_at_once_in_pieces_or_in_chunks() -> None:
    """One that came at once does not wait for messages of ASGI."""
    whole = post("/v1/chat/completions", CHAT)
    async with serving(FakePair()) as router, connected(router.port) as client:
        for pieces in ([whole], [whole[:-5], whole[-5:]], [chunked(orjson.dumps(CHAT))], [whole[:9], whole[9:]]):
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0.02)
            top = await within(5.0, client.reader.readuntil(b"\r\n\r\n"))
            assert top.startswith(b"HTTP/1.1 200")
            length = int(top.partition(b"content-length: ")[2].split(b"\r")[0])
            assert orjson.loads(await within(5.0, client.reader.readexactly(length)))["text"] == "one two"
        limits = router.components.clients.limits
        assert limits.bodies.bytes_in_use == 0


@aio
async def test_a_body_that_comes_at_once_has_the_same_limit() -> None:
    body = CHAT | {"user": "x" * 100}
    size = len(orjson.dumps(body))
    for raw in (post("/v1/chat/completions", body), chunked(orjson.dumps(body))):
        for limit, status in ((size, 200), (size - 1, 413)):
            async with serving(FakePair(), max_body=limit) as router, connected(router.port) as client:
                await client.send(raw)
                assert (await within(5.0, client.reader.readline())).startswith(b"HTTP/1.1 %d" % status)


@aio
async def test_no_line_break_in_a_header() -> None:
    """uvicorn refuses it; what is sent past uvicorn's messages must not differ."""
    async with serving(FakePair()) as router:
        find = router.routes.find

        def found(request: Any) -> Any:
            request.extra_headers.append((b"a", b"b\r\nc: d"))
            return find(request)

        with mock.patch.object(router.routes, "find", found), pytest.raises(httpx.RemoteProtocolError):
            await router.http.get("/liveness")


@aio
async def test_a_head_has_no_body() -> None:
    async with serving(FakePair()) as router, connected(router.port) as client:
        await client.send(b"HEAD /liveness HTTP/1.1\r\nhost: x\r\n\r\n" + LAST)
        first, second, body = (await within(5.0, client.rest())).split(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200")
        assert b"content-length: 2" in first
        assert second.startswith(b"HTTP/1.1 200")
        assert body == b"OK"


@aio
async def test_an_old_client_is_closed() -> None:
    async with serving(FakePair()) as router, connected(router.port) as client:
        [(status, headers, body)] = await answers(client, b"GET /liveness HTTP/1.0\r\n\r\n")
        assert (status, headers[b"connection"], body) == (200, b"close", b"OK")


@aio
async def test_a_long_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body is a write of its own."""
    monkeypatch.setattr(protocol, "LARGE_BODY_BYTES", 1)
    async with serving(FakePair()) as router:
        assert len((await router.http.get("/openapi.json")).json()["paths"]) > 10
        assert (await router.post("/v1/chat/completions", CHAT)).status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("127.0.0.1", [(b"x-forwarded-for", b"10.1.2.3")], "10.1.2.3"),
        ("127.0.0.1", [(b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"10.9.9.9, ::1")], "10.9.9.9"),
        ("127.0.0.1", [(b"host", b"x")], "127.0.0.1"),
        ("10.0.0.7", [(b"x-forwarded-for", b"10.1.2.3")], "10.0.0.7"),
    ],
    ids=["by a proxy", "by two", "by nobody", "by a stranger"],
)
def test_who_asks(peer: str, headers: list[tuple[bytes, bytes]], client: str) -> None:
    asked = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["client"][0])

    @aio
    async def test() -> None:
        unused: Any = None
        await with_proxy_headers(app)({"type": "http", "client": (peer, 1), "headers": headers}, unused, unused)

    test()
    assert asked == [client]
