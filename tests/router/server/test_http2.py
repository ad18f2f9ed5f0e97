"""Clients that speak HTTP/2: with prior knowledge, or by ALPN where there is TLS."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame

from router.server.admission import AdmissionSettings
from router.server.connections import http2
from router.server.connections.http2_frames import PREFACE, FrameLengths
from router.server.connections.http2_sender import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW
from router.server.settings import ServerSettings
from router.tls.settings import TlsSettings
from tests.router.support.aio import aio, until, within
from tests.router.support.certificates import authority, files
from tests.router.support.fakes import Call, FakePair, chat_event
from tests.router.support.raw import CHAT, connected
from tests.router.support.serving import Serving, serving

BODY = orjson.dumps(CHAT)
FAST, PATIENT = ServerSettings(client_timeout_secs=0.2), ServerSettings(client_timeout_secs=600)


class Client:
    """One connection, spoken by hand; `events` are all that came, by the number of their stream (0 without)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **settings: int) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings.update({SettingCodes[name]: value for name, value in settings.items()})
        self.h2.initiate_connection()
        self.reads = True  # whether it makes room for more
        self.events: list[tuple[int, Event]] = []
        self.over = False
        self.raw = bytearray()
        self.send()

    def send(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def begin(self, path: str, method: str = "POST", *, end: bool = False, **headers: str) -> int:
        number = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "some.host")]
        named = {{"length": "content-length"}.get(name, name): value for name, value in headers.items()}
        self.h2.send_headers(number, [*pseudo, *named.items()], end_stream=end)
        self.send()
        return number

    def post(self, path: str, body: bytes) -> int:
        number = self.begin(path)
        self.h2.send_data(number, body, end_stream=True)
        self.send()
        return number

    async def upload(self, number: int, body: bytes) -> None:
        """Send a body as the router takes it, and end the request."""
        while body:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room:
                self.h2.send_data(number, body[:room])
                body = body[room:]
                self.send()
                await self.writer.drain()
            else:
                await asyncio.sleep(0.001)
        self.h2.end_stream(number)
        self.send()

    async def read(self) -> None:
        """Take what comes until the connection ends."""
        while data := await self.reader.read(1 << 16):
            self.raw += data
            for event in self._parse(data):
                if isinstance(event, DataReceived) and self.reads:
                    with suppress(ProtocolError):  # the connection's end may have come with it
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.events.append((getattr(event, "stream_id", None) or 0, event))
            self.send()
        self.over = True

    def _parse(self, data: bytes) -> list[Event]:
        try:
            return list(self.h2.receive_data(data))
        except ProtocolError:
            if not self.of(0, ConnectionTerminated):  # after it h2 takes nothing more, although more may come
                raise
            return []

    def of(self, number: int, kind: type[Any]) -> list[Any]:
        return [event for stream, event in self.events if stream == number and isinstance(event, kind)]

    def frames(self) -> list[Frame]:
        """All that came, by hand."""
        rest, frames = memoryview(bytes(self.raw)), []
        while rest:
            frame, length = Frame.parse_frame_header(rest[:9])
            frame.parse_body(rest[9 : 9 + length])
            rest = rest[9 + length :]
            frames.append(frame)
        return frames

    def status(self, number: int) -> int:
        (response,) = self.of(number, ResponseReceived)
        return int(dict(response.headers)[":status"])

    def text(self, number: int) -> bytes:
        return b"".join(event.data for event in self.of(number, DataReceived))

    def ended(self, number: int) -> Callable[[], bool]:
        return lambda: bool(self.of(number, StreamEnded) or self.of(number, StreamReset))

    async def answer(self, number: int) -> tuple[int, bytes]:
        await until(self.ended(number), f"stream {number} has ended")
        return self.status(number), self.text(number)


@asynccontextmanager
async def talking(router: Serving, **settings: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    client = Client(reader, writer, **settings)
    task = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        task.cancel()
        writer.transport.abort()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def holding(**settings: Any) -> AsyncIterator[tuple[Serving, FakePair, asyncio.Event]]:
    """A router over a pair that begins answers at once and ends them when the event is set."""
    pair, release = FakePair(), asyncio.Event()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        if await call.waits_for(release):
            await call.event(chat_event("two", "stop"))
            await call.done()

    pair.decode.generate = decoded
    async with serving(pair, **settings) as router:
        yield router, pair, release


STREAM = orjson.dumps(CHAT | {"stream": True})


@pytest.mark.parametrize("tls", [False, True], ids=["prior knowledge", "ALPN"])
def test_an_ordinary_client(tls: bool, tmp_path: Path) -> None:
    """Whole answers, streams, several at once on one connection, and the log of each request."""

    @aio
    async def test() -> None:
        pair = FakePair()
        async with serving(pair, tls=files(tmp_path).serving if tls else TlsSettings()) as router:
            verify = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode()) if tls else False
            async with httpx.AsyncClient(
                base_url=router.url, http2=True, http1=tls, verify=verify, trust_env=False, timeout=60
            ) as http:
                assert (await http.get("/liveness")).status_code == 200  # then the connection is there for all
                answers = await asyncio.gather(*(http.post("/v1/chat/completions", json=CHAT) for _ in range(20)))
                assert {(each.status_code, each.http_version) for each in answers} == {(200, "HTTP/2")}
                assert {each.json()["text"] for each in answers} == {"one two"}
                assert "x-request-id" in answers[0].headers
                assert "connection" not in answers[0].headers
                async with http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
                    assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
                for method, path, status in (("GET", "/liveness", 200), ("HEAD", "/liveness", 200), ("GET", "/x", 404)):
                    assert (await http.request(method, path)).status_code == status
                assert len(router.connections) == 1
            await router.freed()

    test()


def test_curl() -> None:
    if shutil.which("curl") is None or "HTTP2" not in subprocess.check_output(["curl", "-V"], text=True):
        pytest.skip("there is no curl with HTTP/2")

    @aio
    async def test() -> None:
        async with serving(FakePair()) as router:
            command = [
                "curl",
                "-sS",
                "--http2-prior-knowledge",
                "-w",
                " %{http_version} %{http_code}",
                "-d",
                BODY.decode(),
            ]
            process = await asyncio.create_subprocess_exec(
                *command, "-H", "content-type: application/json", f"{router.url}/generate?x=1", stdout=subprocess.PIPE
            )
            told, _ = await process.communicate()
            assert told.endswith(b" 2 200")

    test()


@aio
async def test_the_preface_may_come_in_pieces() -> None:
    async with serving(FakePair()) as router:
        for cut in range(1, len(PREFACE) + 1):
            request = H2Connection(H2Configuration(client_side=True))
            request.initiate_connection()
            fields = [(":method", "GET"), (":path", "/liveness"), (":scheme", "http"), (":authority", "x")]
            request.send_headers(1, fields, end_stream=True)
            raw = request.data_to_send()
            async with connected(router.port) as slow:
                await slow.send(raw[:cut])
                if cut < len(PREFACE):
                    await until(lambda: any(getattr(each, "_begun", None) for each in router.connections), "it begins")
                await slow.send(raw[cut:])
                kinds = set[type[Event]]()
                while StreamEnded not in kinds:
                    kinds |= {type(event) for event in request.receive_data(await slow.reader.read(1 << 16))}


@aio
async def test_post_begins_like_the_preface() -> None:
    async with serving(FakePair(), server=PATIENT) as router, connected(router.port) as client:
        raw = b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        await client.send(raw[:1])
        await until(lambda: any(each._begun for each in router.connections), "it has begun")
        await client.send(raw[1:])
        assert b" 404 " in await within(5.0, client.reader.readuntil(b"\r\n\r\n"))


@aio
async def test_a_preface_that_does_not_end() -> None:
    async with serving(FakePair(), server=FAST) as router, connected(router.port) as client:
        await client.send(PREFACE[:5])
        assert b" 408 " in await within(5.0, client.rest())


@aio
async def test_long_bodies_both_ways_and_what_the_app_sees() -> None:
    pair = FakePair()
    long = "x" * (3 * CONNECTION_WINDOW)

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.answer({"text": call.json["text"]})

    pair.decode.generate = decoded
    async with serving(pair, max_body=8 << 20) as router, talking(router) as client:
        body = orjson.dumps({"text": long})
        numbers = [client.begin("/generate?a=%20", authorization="x", cookie="a=1") for _ in range(2)]
        await asyncio.gather(*(client.upload(number, body) for number in numbers))
        for number in numbers:
            status, text = await client.answer(number)
            assert (status, len(orjson.loads(text)["text"])) == (200, len(long))


@aio
async def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    async with serving(FakePair(), max_body=1000) as router, talking(router) as client:
        announced = client.begin("/generate", length="100000")
        status, text = await client.answer(announced)
        assert status == 413
        assert "the body is over 1000 bytes" in orjson.loads(text)["error"]["message"]
        await until(lambda: bool(client.of(announced, StreamReset)), "it need not send the rest")
        assert client.of(announced, StreamReset)[0].error_code == ErrorCodes.NO_ERROR
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200


@aio
async def test_expect_continue() -> None:
    async with serving(FakePair()) as router, talking(router) as client:
        number = client.begin("/generate", expect="100-continue")
        await until(lambda: bool(client.of(number, InformationalResponseReceived)), "it may go on")
        client.h2.send_data(number, BODY, end_stream=True)
        client.send()
        assert (await client.answer(number))[0] == 200


@pytest.mark.claim("time-is-bounded")
@aio
async def test_a_client_that_resets_its_stream_aborts_on_the_servers() -> None:
    async with holding() as (router, pair, _), talking(router) as client:
        left, kept = client.post("/v1/chat/completions", STREAM), client.post("/v1/chat/completions", STREAM)
        await until(lambda: bool(client.text(left) and client.text(kept)), "both have begun")
        client.h2.reset_stream(left, ErrorCodes.CANCEL)
        client.send()
        await until(lambda: len(pair.decode.aborted) == 1, "one is aborted")
        assert len(router.requests) == 1
        client.writer.transport.abort()
        await until(lambda: len(pair.decode.aborted) == 2, "with the connection, the other one too")
        await router.freed()


@aio
async def test_a_client_that_makes_no_room_holds_up_no_other_and_is_left() -> None:
    """A response waits for its client, in a bounded buffer, and is broken off when that takes nothing for too long."""
    pair = FakePair()
    sent = 0

    async def decoded(call: Call) -> None:
        nonlocal sent
        pair.room(call).set()
        await call.stream()
        while True:
            await call.event(chat_event("x" * 10_000))
            sent += 10_000

    pair.decode.generate = decoded
    async with (
        serving(pair, server=FAST) as router,
        talking(router) as client,
    ):
        client.reads = False
        number = client.post("/v1/chat/completions", STREAM)
        await until(lambda: len(client.text(number)) == 65535, "the window is full")
        async with talking(router) as other:
            assert (await other.answer(other.begin("/liveness", "GET", end=True)))[0] == 200
        await until(client.ended(number), "it is broken off")
        await until(lambda: len(pair.decode.aborted) == 1, "and aborted")
        assert sent < 64 << 20
        await router.freed()


@pytest.mark.claim("time-is-bounded")
@pytest.mark.parametrize("how", ["pings", "settings", "other streams", "a byte at a time"])
def test_a_client_that_makes_hardly_any_room_is_left(how: str) -> None:
    """What it sends meanwhile gives it no more time; bytes that it takes give as much as a body's bytes do."""

    @aio
    async def test() -> None:
        pair = FakePair()

        async def decoded(call: Call) -> None:
            pair.room(call).set()
            await call.answer({"text": "x" * 200_000})

        pair.decode.generate = decoded
        async with serving(pair, server=FAST) as router, talking(router) as client:
            client.reads = False
            number = client.post("/generate", BODY)
            await until(lambda: len(client.text(number)) == 65535, "the window is full")
            other = client.begin("/generate")
            for turn in range(100):
                if client.ended(number)():
                    break
                if how == "pings":
                    client.h2.ping(b"12345678")
                elif how == "settings":
                    client.h2.update_settings({SettingCodes.MAX_FRAME_SIZE: 20_000 + turn})
                else:
                    client.h2.increment_flow_control_window(1)
                    with suppress(ProtocolError):  # the other one may have been answered
                        client.h2.increment_flow_control_window(1, number if how == "a byte at a time" else other)
                client.send()
                await asyncio.sleep(0.02)
            assert client.of(number, StreamReset)
            assert client.of(number, StreamReset)[0].error_code == ErrorCodes.INTERNAL_ERROR

    test()


@aio
async def test_the_table_of_headers_stays_small() -> None:
    """The client may name any size for it, and no id of a request stays in it."""
    async with serving(FakePair()) as router, talking(router, HEADER_TABLE_SIZE=1 << 20) as client:
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200
        (connection,) = router.connections
        table = connection._sender.h2.encoder.header_table
        assert table.maxsize == 4096
        names = [name for name, _ in table.dynamic_entries]
        assert names
        assert b"x-request-id" not in names
        client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 100})
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200
        assert table.maxsize == 100


@pytest.mark.claim("time-is-bounded")
@aio
async def test_a_body_that_does_not_come() -> None:
    async with serving(FakePair(), server=FAST) as router, talking(router) as client:
        number = client.begin("/generate")
        client.h2.send_data(number, b'{"text"')
        client.send()
        status, text = await client.answer(number)
        sentence = "the request was not sent whole within 0.2 s; send it faster."
        assert (status, orjson.loads(text)["error"]["message"]) == (408, sentence)
        await until(lambda: not router.requests, "the request is over")


@pytest.mark.claim("time-is-bounded")
@aio
async def test_a_connection_without_requests_ends() -> None:
    async with serving(FakePair(), server=FAST) as router, talking(router) as client:
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200
        await until(lambda: client.over, "it is closed")
        assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.NO_ERROR


@pytest.mark.claim("bytes-are-bounded")
@aio
async def test_streams_at_once_are_bounded() -> None:
    async with holding() as (router, _, release), talking(router) as client:
        await until(lambda: client.h2.remote_settings.max_concurrent_streams == MAX_STREAMS, "the settings came")
        assert client.h2.remote_settings.initial_window_size == STREAM_WINDOW
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000  # it does not care
        client.h2.remote_settings.acknowledge()
        numbers = [client.begin("/generate") for _ in range(MAX_STREAMS + 3)]
        await until(
            lambda: all(client.of(number, StreamReset) for number in numbers[MAX_STREAMS:]), "three are refused"
        )
        for number in numbers[MAX_STREAMS:]:
            assert client.of(number, StreamReset)[0].error_code == ErrorCodes.REFUSED_STREAM
        assert len(router.requests) == MAX_STREAMS
        release.set()


@pytest.mark.claim("bytes-are-bounded")
@pytest.mark.parametrize("how", ["resets", "pings", "settings", "empty data"])
def test_a_client_that_only_makes_work_is_sent_away(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "BURST", 10.0 if how == "resets" else 1.0)
    monkeypatch.setattr(http2, "PER_SECOND", 0.0)

    @aio
    async def test() -> None:
        async with holding() as (router, _, _), talking(router) as client:
            await until(lambda: bool(client.events), "it is there")
            if how == "empty data":
                number = client.begin("/generate")
            for _ in range(12):
                if how == "resets":
                    client.h2.reset_stream(client.begin("/generate"), ErrorCodes.CANCEL)
                elif how == "pings":
                    client.h2.ping(b"12345678")
                elif how == "settings":
                    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 70000})
                else:
                    client.h2.send_data(number, b"")
            client.send()
            await until(lambda: client.over, "it is closed")
            assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM
            await until(lambda: not router.requests, "nothing is left")

    test()


def frame(kind: int, number: int, body: bytes = b"", flags: int = 0) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + body


FLOODS = {
    "room for the connection": frame(8, 0, b"\0\0\0\1"),
    "acknowledged settings": frame(4, 0, flags=1),
    "resets of a closed stream": frame(3, 1, b"\0\0\0\x08"),
    "data of a closed stream": frame(0, 1, b"x"),
    "priorities": frame(2, 3, b"\0\0\0\0\1"),
    "unknown frames": frame(0xBB, 0),
}


@pytest.mark.claim("bytes-are-bounded")
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_is_cut_off(kind: str) -> None:
    """Whatever their type, and before they are parsed."""

    @aio
    async def test() -> None:
        async with holding() as (router, _, _), talking(router) as client:
            number = client.begin("/generate")
            client.h2.reset_stream(number, ErrorCodes.CANCEL)
            client.send()
            await until(lambda: bool(client.events), "it is there")
            client.writer.write(20_000 * FLOODS[kind])
            await until(lambda: client.over, "it is closed")
            assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM

    test()


@aio
async def test_what_is_parsed_at_once_is_bounded() -> None:
    """The rest of what was read waits, in order, and nothing of it is lost."""
    sizes = list[int]()
    pair = FakePair()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.answer({"text": call.json["text"]})

    pair.decode.generate = decoded
    async with serving(pair) as router, talking(router) as client:
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200
        (connection,) = router.connections
        allowed = connection._lengths.allowed

        def noted(data: bytes) -> Any:
            sizes.append(len(data))
            return allowed(data)

        connection._lengths.allowed = noted
        await until(lambda: not connection._streams, "the first is over")
        number = client.begin("/generate")
        await until(lambda: bool(connection._streams), "it has begun")
        body = orjson.dumps({"text": "x" * 200_000})
        for at in range(0, len(body), 10_000):
            client.h2.send_data(number, body[at : at + 10_000], end_stream=at + 10_000 >= len(body))
        connection.data_received(client.h2.data_to_send())
        status, text = await client.answer(number)
        assert (status, len(orjson.loads(text)["text"])) == (200, 200_000)
        assert max(sizes) <= 64 << 10


@pytest.mark.claim("bytes-are-bounded")
def test_a_client_that_does_not_read_answers_to_its_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not kept without bound: the router stops to read, and then leaves."""
    monkeypatch.setattr(http2, "BURST", 1e9)

    @aio
    async def test() -> None:
        async with serving(FakePair(), server=FAST) as router, connected(router.port, buffer=4096) as client:
            spoken = H2Connection(H2Configuration(client_side=True))
            spoken.initiate_connection()
            await client.send(spoken.data_to_send())
            await until(lambda: any(hasattr(each, "_sender") for each in router.connections), "it is there")
            (connection,) = router.connections
            connection._sender._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for _ in range(1000):
                spoken.ping(b"12345678")
            pings, most = spoken.data_to_send(), 0
            while router.connections:
                client.writer.write(pings)
                most = max(most, connection._sender._transport.get_write_buffer_size())
                await asyncio.sleep(0)
            assert most < 1 << 20
            await asyncio.gather(client.writer.drain(), return_exceptions=True)

    test()


@aio
async def test_what_is_no_request() -> None:
    async with serving(FakePair()) as router, talking(router) as client:
        number = client.h2.get_next_available_stream_id()
        client.h2.config.validate_outbound_headers = False
        client.h2.send_headers(number, [(":method", "CONNECT"), (":authority", "other:80")])
        client.send()
        status, _ = await client.answer(number)
        assert status == 400
        client.writer.write(b"\0\0\1\0\1\0\0\0\5x")  # data of a request that never began
        await until(lambda: client.over, "it is closed")
        assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize("bad", ["\r\n", "\0", "\x01", "\x7f"])
@pytest.mark.parametrize("where", ["value", "path", "method"])
def test_control_characters_reach_no_worker(where: str, bad: str) -> None:
    """In HTTP/1.1, which the workers get, they could be headers and requests of the client's own making."""

    @aio
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router, talking(router) as client:
            client.h2.config.validate_outbound_headers = False
            fields = {"value": "a", "path": "/generate", "method": "POST"}
            fields[where] += f"{bad}x: y"
            pseudo = [(":method", fields["method"]), (":path", fields["path"]), (":scheme", "http")]
            number = client.h2.get_next_available_stream_id()
            client.h2.send_headers(number, [*pseudo, (":authority", "x"), ("x-request-id", fields["value"])])
            client.h2.send_data(number, BODY, end_stream=True)
            client.send()
            await until(lambda: client.over or client.ended(number)(), "it is refused")
            # h2 itself ends the connection for some of them.
            assert client.over or client.status(number) == 400
            assert not pair.prefill.requests
            assert not pair.decode.requests

    test()


HEAD = b"\0\x40\0\x01\0\0\0\0\1" + b"x" * (16 << 10)  # of a request, without an end


@pytest.mark.claim("bytes-are-bounded")
@pytest.mark.parametrize(
    "raw",
    [b"nonsense" * 9, b"\0\x40\1\0\0\0\0\0\1", HEAD + 5 * HEAD.replace(b"\x01", b"\x09", 1)],
    ids=["nonsense", "a long frame", "a long head"],
)
def test_frames_that_are_too_long_are_not_waited_for(raw: bytes) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as router, talking(router) as client:
            await until(lambda: bool(client.events), "it is there")
            client.writer.write(raw)
            await until(lambda: client.over, "it is closed")
            assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.FRAME_SIZE_ERROR

    test()


@pytest.mark.parametrize("step", [1, 2, 8, 9, 10, 10_000, 1 << 20])
def test_lengths_of_frames_in_pieces_of_any_size(step: int) -> None:
    good = PREFACE + 3 * HEAD + HEAD.replace(b"\x01", b"\x09", 1) + b"\0\0\0\6\0\0\0\0\0"
    for raw, allowed in ((good, True), (good + b"\0\x40\1\0\0", True), (good + b"\0\x40\1\0\0\0\0\0\0", False)):
        lengths = FrameLengths()
        assert all(lengths.allowed(raw[at : at + step]) for at in range(0, len(raw), step)) == allowed


@aio
async def test_heads_over_the_limit_end_the_connection() -> None:
    async with serving(FakePair()) as router, talking(router) as client:
        client.begin("/liveness", "GET", end=True, **{f"x-{number}": "a" * 4000 for number in range(20)})
        await until(lambda: client.over, "it is closed")
        assert client.of(0, ConnectionTerminated)[0].error_code == ErrorCodes.ENHANCE_YOUR_CALM


@aio
async def test_an_orderly_end() -> None:
    """Requests that are there are answered, new ones are not taken, and the client knows which."""
    async with holding() as (router, _, release), talking(router) as client:
        number = client.post("/v1/chat/completions", STREAM)
        await until(lambda: bool(client.text(number)), "it has begun")
        (connection,) = router.connections
        connection.shutdown()
        await until(lambda: bool(client.of(0, ConnectionTerminated)), "it is told")
        assert client.of(0, ConnectionTerminated)[0].last_stream_id == number
        release.set()
        await until(lambda: client.over, "and closed")
        frames = [frame for frame in client.frames() if isinstance(frame, DataFrame)]
        assert b"".join(frame.data for frame in frames).endswith(b"data: [DONE]\n\n")
        assert "END_STREAM" in frames[-1].flags


@aio
async def test_admission_and_the_access_log_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    limits = AdmissionSettings(max_concurrent=1, queue_size=0)
    with caplog.at_level("INFO", "router"):
        async with holding(limits=limits) as (router, _, release), talking(router) as client:
            first = client.post("/v1/chat/completions", STREAM)
            await until(lambda: bool(client.text(first)), "it has begun")
            status, _ = await client.answer(client.post("/v1/chat/completions", STREAM))
            assert status == 429
            release.set()
            assert (await client.answer(first))[0] == 200
            await router.settled()
    assert sum("/v1/chat/completions" in line for line in caplog.messages) == 2


@aio
async def test_an_app_that_fails_in_mid_response() -> None:
    """The stream is reset, not ended as if it were whole."""
    async with holding() as (router, pair, _), talking(router) as client:
        number = client.post("/v1/chat/completions", STREAM)
        await until(lambda: bool(client.text(number)), "it has begun")
        pair.decode.requests[0].drop()
        await until(client.ended(number), "it is broken off")
        assert client.of(number, StreamEnded) == [] or b"error" in client.text(number)
        assert (await client.answer(client.begin("/liveness", "GET", end=True)))[0] == 200
