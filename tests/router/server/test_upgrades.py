"""Clients that offer another protocol, or speak an old one: h2c, WebSocket and HTTP/1.0."""

import asyncio
import re
import subprocess
from typing import Any

import orjson
import pytest

from tests.router.support.aio import aio, within
from tests.router.support.fakes import FakePair
from tests.router.support.raw import CHAT, RawClient, connected, post
from tests.router.support.serving import serving

OFFER = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
LAST = b"GET /liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def offered(path: str, body: Any, *, chunked: bool = False) -> tuple[bytes, bytes]:
    """Head and body of a request that offers HTTP/2."""
    head, _, raw = post(path, body).partition(b"\r\n\r\n")
    if chunked:
        head = re.sub(rb"content-length: \d+", b"transfer-encoding: chunked", head)
        raw = b"3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (raw[:3], len(raw) - 3, raw[3:])
    return head + b"\r\n" + OFFER + b"\r\n", raw


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


@pytest.mark.case("1.h2c")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("apart", [False, True], ids=["one packet", "two packets"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/generate", "/v1/completions"])
def test_public_case_an_offer_of_h2c_is_ignored(path: str, apart: bool, chunked: bool) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        head, body = offered(path, {**CHAT, "text": "hi", "prompt": "hi"}, chunked=chunked)
        async with serving(pair) as router, connected(router.port) as client:
            if apart:
                await client.send(head)
                await asyncio.sleep(0.05)  # so that they are two packets
                await client.send(body + LAST)
            else:
                await client.send(head + body + LAST)
            answers = await within(5.0, client.rest())
        assert statuses(answers) == [200, 200]
        assert b'"text":"one two"' in answers
        assert pair.decode.requests[0].json["text"] == "hi"

    test()


@aio
async def test_offers_in_a_row_and_a_byte_at_a_time() -> None:
    pair = FakePair()
    requests = [offered("/generate", {"text": str(number)}, chunked=number == 1) for number in range(3)]
    raw = b"".join(head + body for head, body in requests)
    async with serving(pair) as router:
        for drip in (False, True):
            pair.decode.server.calls.clear()
            async with connected(router.port) as client:
                if drip:
                    answers = await within(10.0, client.drip(raw + LAST, 0))
                else:
                    await client.send(raw + LAST)
                    answers = await within(5.0, client.rest())
            assert statuses(answers) == [200] * 4
            assert [call.json["text"] for call in pair.decode.requests] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "connection", [b"upgrade", b"close, Upgrade", b"keep-alive,UPGRADE", b"Upgrade, HTTP2-Settings, close"]
)
def test_the_rest_of_the_connection_header_counts(connection: bytes) -> None:
    @aio
    async def test() -> None:
        request = b"GET /liveness HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: %b\r\n\r\n" % connection
        async with serving(FakePair()) as router, connected(router.port) as client:
            await client.send(request + (b"" if b"close" in connection else LAST))
            answers = await within(5.0, client.rest())
        assert statuses(answers) == [200] * (1 if b"close" in connection else 2)

    test()


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT other:80 HTTP/1.1\r\nhost: other:80\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\nX\r\n",
        b"POST / HTTP/1.1\r\n" + OFFER + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["a proxy's", "nearly HTTP/2", "two lengths", "nonsense"],
)
def test_what_cannot_be_parsed_is_refused_with_a_sentence(raw: bytes) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as router, connected(router.port) as client:
            await client.send(raw)
            top, _, body = (await within(5.0, client.rest())).partition(b"\r\n\r\n")
            assert statuses(top) == [400]
            assert "this is not HTTP/1.1" in orjson.loads(body)["error"]["message"]

    test()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/v1/realtime"])
def test_a_websocket_is_refused_with_a_sentence(path: str) -> None:
    @aio
    async def test() -> None:
        raw = (
            b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ) % path.encode()
        async with serving(FakePair()) as router, connected(router.port) as client:
            await client.send(raw + LAST)
            answers = await within(5.0, client.rest())
        assert statuses(answers) == [400, 200]
        assert b"WebSocket is not spoken here; POST the request" in answers

    test()


async def old(client: RawClient, body: dict[str, Any]) -> tuple[bytes, bytes]:
    """Head and body of the answer to a client of HTTP/1.0."""
    await client.send(post("/v1/chat/completions", {**CHAT, **body}).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, answer = (await within(5.0, client.rest())).partition(b"\r\n\r\n")
    assert statuses(head) == [200]
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    return head, answer


@pytest.mark.case("8.http10")
@aio
async def test_public_case_an_old_client_gets_no_chunks() -> None:
    async with serving(FakePair()) as router:
        async with connected(router.port) as client:
            head, answer = await old(client, {"stream": True})
            assert b"content-length" not in head
            *events, done, end = answer.split(b"\n\n")
            assert (done, end) == (b"data: [DONE]", b"")
            deltas = [orjson.loads(event.removeprefix(b"data: "))["choices"][0]["delta"] for event in events]
            assert [delta["content"] for delta in deltas] == ["one ", "two", ""]
        async with connected(router.port) as client:
            head, answer = await old(client, {})
            assert orjson.loads(answer)["text"] == "one two"
            assert b"content-length: %d" % len(answer) in head


HAS_HTTP2 = b"HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout


@pytest.mark.skipif(not HAS_HTTP2, reason="this curl speaks no HTTP/2")
@aio
async def test_curl_offers_http2() -> None:
    pair = FakePair()
    async with serving(pair) as router:
        arguments = ["--silent", "--http2", "--max-time", "60", "--data", orjson.dumps(CHAT).decode()]
        process = await asyncio.create_subprocess_exec(
            "curl", *arguments, f"{router.url}/v1/chat/completions", stdout=subprocess.PIPE
        )
        told, _ = await process.communicate()
        assert orjson.loads(told)["text"] == "one two"
        assert pair.decode.requests[0].json["messages"] == CHAT["messages"]
