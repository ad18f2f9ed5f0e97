"""Real asyncio HTTP servers that misbehave on purpose.

They stand in for SGLang servers only where a test needs a fault that a real server cannot be made to
show at will: a connection cut between two bytes, a leg that refuses while the other waits, an answer
nobody asked for. What a real pair does is tested in tests/e2e.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import orjson

from tests.router.support.sglang_answers import NO_ENGINE, of_http_process

Handler = Callable[["Call"], Awaitable[None]]

SSE = (("content-type", "text/event-stream"),)
UNKNOWN = ("/metrics", "/start_profile", "/stop_profile")  # paths that a `FakeWorker` has not


def head(status: int = 200, *headers: tuple[str, str]) -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode()


def whole(body: bytes, status: int = 200, *headers: tuple[str, str]) -> bytes:
    """An answer with a content-length."""
    return head(status, *headers, ("content-length", str(len(body)))) + body


def chunk(body: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(body), body)


@dataclass
class Call:
    """One request as a fake server got it, and the way to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def json(self) -> dict[str, Any]:
        told = orjson.loads(self.body)
        assert isinstance(told, dict)
        return told

    async def send(self, raw: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        await self.send(whole(orjson.dumps(value), status, ("content-type", "application/json")))

    async def stream(self, *events: Any) -> None:
        """Begin a stream of server-sent events and send some."""
        await self.send(head(200, *SSE, ("transfer-encoding", "chunked")))
        for event in events:
            await self.event(event)

    async def event(self, value: Any) -> None:
        """Send one event."""
        await self.send(chunk(b"data: " + orjson.dumps(value) + b"\n\n"))

    async def done(self) -> None:
        """End a stream the way OpenAI's API does."""
        await self.send(chunk(b"data: [DONE]\n\n") + chunk(b""))

    def drop(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return when the other side has closed the connection."""
        try:
            while await self.reader.read(1 << 16):
                pass
        except ConnectionError:
            pass

    async def waits_for(self, event: asyncio.Event) -> bool:
        """Wait for an event; False when the other side closed the connection before it."""
        tasks = [asyncio.create_task(event.wait()), asyncio.create_task(self.gone())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return event.is_set()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class FakeServer:
    """An HTTP/1.1 server that answers as its handler says.

    It listens on a free port of 127.0.0.1, unless told otherwise, or at a path in the file system; where `tls` is set
    before it starts, with TLS.
    """

    def __init__(self, handler: Handler, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.path = path
        self.tls = tls
        self.host = "127.0.0.1"
        self.port = 0
        self.calls: list[Call] = []
        self.accepted = 0
        self.open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"

    def to(self, path: str) -> list[Call]:
        """The calls of one path."""
        return [call for call in self.calls if call.path == path]

    async def __aenter__(self) -> Self:
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._connected, self.path)
            return self
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in [*self.open]:
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.accepted += 1
        try:
            await self._serve(reader, writer, self.accepted)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.open.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while not writer.is_closing():
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            method, path, _ = first.split()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            call = Call(method, path, headers, body, number, reader, writer)
            self.calls.append(call)
            await self.handler(call)


@dataclass
class FakeWorker:
    """A fake SGLang server of one role: tells about itself, takes aborts, generates as `generate` says."""

    role: Literal["prefill", "decode"]
    generate: Handler
    model: str = "fake"
    info: Any = None
    well: bool = True
    health: str = "/health"
    server: FakeServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = FakeServer(self._handle)
        if self.info is None:
            self.info = {"served_model_name": self.model, "disaggregation_mode": self.role, "version": "0.5.17"}

    async def _handle(self, call: Call) -> None:
        if call.path == "/server_info":
            await call.answer(self.info)
        elif call.path == "/model_info":
            await call.answer({"model_path": self.model, "is_generation": True})
        elif call.path == "/v1/models":
            await call.answer({"data": [{"id": self.info.get("served_model_name")}]})
        elif call.path == self.health:
            await call.send(whole(b"", 200 if self.well else 503))
        elif call.path == "/abort_request":
            await call.send(whole(b""))
        elif call.path in UNKNOWN:
            await call.send(whole(b"", 404))
        elif call.path == "/tokenize":
            await call.answer({"tokens": toy_ids(call.json)})
        elif call.path == "/detokenize":
            await call.answer({"text": "".join(map(chr, call.json["tokens"]))})
        elif call.path in NO_ENGINE:
            status, told = of_http_process(call.path, call.json)
            await call.answer(told, status)
        else:
            await self.generate(call)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def requests(self) -> list[Call]:
        """The generation requests it got."""
        other = {"/server_info", "/model_info", "/v1/models", self.health, "/abort_request", *NO_ENGINE, *UNKNOWN}
        return [call for call in self.server.calls if call.path not in other]

    @property
    def aborted(self) -> list[str]:
        """The ids it was told to abort."""
        return [call.json["rid"] for call in self.server.to("/abort_request")]


class FakePair:
    """A prefill and a decode server; prefill answers only after decode got the same room, as a real one."""

    def __init__(self, model: str = "fake") -> None:
        self.rooms: dict[str, asyncio.Event] = {}
        self.prefill = FakeWorker("prefill", self.prefilled, model)
        self.decode = FakeWorker("decode", self.decoded, model)

    def room(self, call: Call) -> asyncio.Event:
        """The event that decode has entered a request's room."""
        return self.rooms.setdefault(str(call.json["bootstrap_room"]), asyncio.Event())

    async def prefilled(self, call: Call) -> None:
        """Wait for decode, then answer."""
        if not await call.waits_for(self.room(call)):
            return
        await call.answer({"text": "", "meta_info": {"input_token_logprobs": [[-1.0, 1, None]]}})

    async def decoded(self, call: Call) -> None:
        """Answer, streaming when asked to."""
        self.room(call).set()
        if call.json.get("stream"):
            await call.stream(*(chat_event(piece) for piece in ("one ", "two")), chat_event("", "stop"))
            await call.done()
        else:
            await call.answer({"text": "one two", "meta_info": {"output_token_logprobs": []}})


def chat_event(piece: str, finish: str | None = None, usage: tuple[int, int] | None = None) -> dict[str, Any]:
    """One event of a streamed chat answer."""
    event: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": finish}]}
    if usage is not None:
        event["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return event


def toy_ids(asked: dict[str, Any]) -> Any:
    """A tokenizer of one id a character, with a chat template that marks roles."""
    if "messages" not in asked:
        return [[ord(letter) for letter in text] for text in asked["prompt"]]
    rendered = "".join(f"<{each['role']}>{_content(each)}</{each['role']}>" for each in asked["messages"])
    return [ord(letter) for letter in rendered]


def _content(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def native_event(
    text: str, finish: str | None = None, usage: tuple[int, int] = (0, 0), ids: list[int] | None = None
) -> dict[str, Any]:
    """One event of a streamed `/generate` answer: all of it so far."""
    prompt, completion = usage
    meta: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": 1}
    meta["finish_reason"] = {"type": finish} if finish else None
    return {"text": text, "output_ids": [ord(letter) for letter in text] if ids is None else ids, "meta_info": meta}


@asynccontextmanager
async def started(*pairs: FakePair) -> AsyncIterator[None]:
    """Run the servers of pairs."""
    servers = [worker.server for pair in pairs for worker in (pair.prefill, pair.decode)]
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.__aenter__())
    try:
        yield
    finally:
        for server in servers:
            await server.__aexit__()
