"""The ASGI side: a request, answers, and a watch on the client's connection."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import orjson

from router.errors import TooLarge
from router.http.body import parse_object

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_HEADERS: Headers = [(b"content-type", b"application/json")]
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]

CONNECTION = "router.connection"  # the scope's extension that is a `ClientConnection`
WATCH_AFTER = 0.05  # seconds: most requests are over before


class ClientConnection(Protocol):
    """What a client's connection can do beyond ASGI."""

    def answer_at_once(self, scope: Scope, status: int, headers: Headers, body: bytes) -> bool:
        """Send a scope's whole answer, for which the headers name no length; False where that takes ASGI's messages."""


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


class AsgiRequest:
    """One HTTP request of a client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_body: int) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self._peer = scope.get("client")
        self._receive = receive
        self._send = send
        self._scope = scope
        self._connection: ClientConnection | None = scope.get("extensions", {}).get(CONNECTION)
        self._max_body = max_body
        self.response_started = False
        self.response_complete = False

    def header(self, name: bytes) -> str | None:
        """A header's value by lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    @property
    def client(self) -> str:
        """Who asks, as far as limits go: the key it shows, else where it comes from."""
        shown = self.header(b"authorization")
        if shown is not None:
            return sha256(shown.encode()).hexdigest()
        return str(self._peer[0]) if self._peer else "unknown"

    async def body(self) -> bytes:
        """The whole body; raises `TooLarge` over the limit, `ClientGone` when it never ends."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise TooLarge(f"the body is over {self._max_body} bytes; send a shorter one.")
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return parse_object(await self.body())

    async def disconnected(self) -> None:
        """Return when the client is gone; call only after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _begin(self, status: int, headers: Headers) -> Headers:
        """The answer begins; all its headers."""
        self.response_started = True
        return headers

    async def send_headers(self, status: int, headers: Headers) -> None:
        """Begin the answer."""
        headers = self._begin(status, headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_chunk(self, chunk: bytes, *, more: bool = True) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        # Not before: while a slow client is waited for, it can still leave or be out of time.
        self.response_complete = not more

    async def send_response(self, status: int, body: bytes, headers: Headers = JSON_HEADERS) -> None:
        """Send a whole answer."""
        if self._connection is not None:
            whole = self._begin(status, headers)
            if self._connection.answer_at_once(self._scope, status, whole, body):
                self.response_complete = True
                return
        await self.send_headers(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.send_chunk(body, more=False)

    async def send_json(self, value: Any, status: int = 200) -> None:
        """Send a JSON answer."""
        await self.send_response(status, orjson.dumps(value))

    async def send_stream(self, chunks: AsyncIterator[bytes], headers: Headers = SSE_HEADERS) -> None:
        """Send an answer piece by piece."""
        await self.send_headers(200, headers)
        async for chunk in chunks:
            await self.send_chunk(chunk)
        await self.send_chunk(b"", more=False)


class _Watch:
    """Cancels a task when its client leaves, or when its time is over; it waits its turn in `_Rounds` until then."""

    def __init__(self, task: asyncio.Task[Any], request: AsgiRequest, seconds: float | None) -> None:
        self.reason: ClientGone | TimeoutError | None = None
        self._watched = task
        self._request = request
        self._due = None if seconds is None else time.monotonic() + seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(None if self._due is None else self._due - time.monotonic()):
                await self._request.disconnected()
            reason: ClientGone | TimeoutError = ClientGone()
        except TimeoutError:
            reason = TimeoutError()  # not the one that has this frame in its traceback: that would be a circle
        # ASGI reports a whole answer and a lost client alike.
        if not self._request.response_complete:
            self.reason = reason
            self._watched.cancel()

    def end(self) -> asyncio.Task[None] | None:
        """Watch no more; returns a task that is still to be waited for, or None."""
        task, self._task = self._task, None  # its end's traceback has this: that would be a circle
        if task is None or task.done():
            return None
        task.cancel()
        return task


class _Rounds:
    """Begins watches, between `WATCH_AFTER` and twice that after they came.

    One timer serves all: one for each, set and cancelled, would be most of what a short request's watch costs.
    """

    def __init__(self) -> None:
        self._came: set[_Watch] = set()
        self._waiting: set[_Watch] = set()
        self._ticking = False

    def add(self, watch: _Watch) -> None:
        """A watch that nobody needs if the request is short."""
        self._came.add(watch)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(WATCH_AFTER, self._tick)

    def forget(self, watch: _Watch) -> None:
        """It is over; at once rather than with hundreds of others in a round, which somebody would wait for."""
        self._came.discard(watch)
        self._waiting.discard(watch)

    def _tick(self) -> None:
        due, self._waiting, self._came = self._waiting, self._came, set()
        for watch in due:
            watch.begin()
        self._ticking = bool(self._waiting)
        if self._ticking:
            asyncio.get_running_loop().call_later(WATCH_AFTER, self._tick)


_rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, _Rounds] = WeakKeyDictionary()


async def while_connected(request: AsgiRequest, work: Awaitable[None], seconds: float | None = None) -> None:
    """Run `work`, cancelled when the client goes away; call only after `AsgiRequest.body`.

    The watch and the work both end before this returns. Work that goes on after the answer's last
    chunk is finished.

    Raises:
        ClientGone: The client went away.
        TimeoutError: It took longer than `seconds`, unless they are None.
    """
    task = asyncio.current_task()
    assert task is not None
    others = task.cancelling()
    watch = _Watch(task, request, seconds)
    loop = task.get_loop()
    rounds = _rounds.get(loop) or _rounds.setdefault(loop, _Rounds())
    if seconds is None or seconds > 2 * WATCH_AFTER:
        rounds.add(watch)
    else:
        watch.begin()
    try:
        await work
    finally:
        rounds.forget(watch)
        ending = watch.end()
        if ending is not None:
            await asyncio.gather(ending, return_exceptions=True)
        reason, watch.reason = watch.reason, None
        try:
            if reason is not None and task.uncancel() <= others:
                raise reason from None
        finally:
            del reason  # else its traceback and this frame are a circle
