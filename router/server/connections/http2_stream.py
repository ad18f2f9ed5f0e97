"""One request of an HTTP/2 connection: its stream, as the app sees it over ASGI."""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from router.errors import RouterError, SlowClient
from router.http.asgi import Headers, Message, Scope
from router.server.connections.limits import MIN_BODY_BYTES

logger = logging.getLogger(__name__)

# Headers about an HTTP/1.1 connection, which HTTP/2 has not.
CONNECTION_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
NO_BODY: Sequence[int] = (204, 304)
# Workers get headers as lines of text, in which these could end a line; the parser of HTTP/1.1 refuses them too.
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
SPACE_OR_CONTROL = re.compile(rb"[\x00-\x20\x7f]")


class StreamSender(Protocol):
    """What a stream needs of its connection."""

    limit: float

    def acknowledge(self, stream: "Stream", size: int) -> None:
        """So many bytes of the request's body were read: the client may send more."""

    def send_head(self, stream: "Stream", status: int, headers: Headers, *, last: bool) -> None:
        """Send status and headers; they are written with the first bytes of the body."""

    async def send_body(self, stream: "Stream", body: bytes, *, last: bool) -> None:
        """Send bytes of the body as the client takes them."""

    def reset(self, stream: "Stream") -> None:
        """Break the response off."""

    def refuse(self, stream: "Stream", error: RouterError) -> None:
        """Answer with an error, unless another response has begun, and end the stream."""


class Stream:
    """One request and its response.

    Attributes:
        id: The stream's number on its connection.
        started: Whether the response's head was sent.
        complete: Whether the whole response was sent.
        ended: Whether the whole request was received.
        disconnected: Whether the client has left it.
        unread_bytes: Bytes of the body that the app has not read yet.
        writable: Set when the client has made room for more.
        patience: Seconds for which the response may still wait for the client to make room.
        sent: Bytes of the response's body that have left.
        last_wait: When the response last went on, and how many bytes of its own and of all streams had left.
    """

    def __init__(self, sender: StreamSender, number: int, scope: Scope, *, ended: bool) -> None:
        self.id = number
        self.scope = scope
        self.started = self.complete = self.disconnected = False
        self.ended = ended
        self.unread_bytes = 0
        self.writable = asyncio.Event()
        self.patience = sender.limit
        self.sent = 0
        self.last_wait = (0.0, 0, 0)
        self._sender = sender
        self._head_only = False
        self._chunks: list[bytes] = []
        self._delivered = False  # the end of the body, to the app
        self._event = asyncio.Event()
        self._received = 0  # bytes since the timer was started
        self._expects_continue = (b"expect", b"100-continue") in scope["headers"] and not ended
        self._timer: asyncio.TimerHandle | None = None
        if not ended:
            self._start_timer()

    # called by the connection

    def receive_data(self, data: bytes) -> None:
        """A piece of the body has arrived."""
        self._received += len(data)
        self.unread_bytes += len(data)
        self._chunks.append(data)
        self._expects_continue = False
        self._event.set()

    def receive_end(self) -> None:
        """The request is whole."""
        self.ended = True
        self._stop_timer()
        self._event.set()

    def disconnect(self) -> None:
        """The client has left, or was left: what it has sent is not read any more."""
        self.disconnected = True
        self._chunks.clear()
        self._stop_timer()
        self._event.set()
        self.writable.set()

    async def run(self, app: Any) -> None:
        """Let the app answer; what it leaves open is broken off."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:
            if not self.disconnected:
                logger.error("Exception in ASGI application", exc_info=error)
            await self._break_off()
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            await self._break_off()
        finally:
            self._stop_timer()

    async def _break_off(self) -> None:
        if self.disconnected or self.complete:
            return
        if self.started:
            self._sender.reset(self)
        else:
            await self.send({"type": "http.response.start", "status": 500, "headers": []})
            await self.send({"type": "http.response.body", "body": b""})

    # ASGI

    async def receive(self) -> Message:
        """The next piece of the request's body, or that the client has left."""
        if self._expects_continue and not self.started and not self.disconnected:
            self._expects_continue = False
            self._sender.send_head(self, 100, [], last=False)
        while not (self.disconnected or self.complete):
            if self._chunks or (self.ended and not self._delivered):
                body, size = b"".join(self._chunks), self.unread_bytes
                self._chunks.clear()
                self.unread_bytes = 0
                self._delivered = self.ended
                if size:
                    self._sender.acknowledge(self, size)
                return {"type": "http.request", "body": body, "more_body": not self.ended}
            self._event.clear()
            await self._event.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response; nothing when the client has left."""
        if self.disconnected:
            return
        if not self.started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"the response starts with {message['type']}")
            self.started = True
            status = message["status"]
            self._head_only = self.scope["method"] == "HEAD" or status in NO_BODY
            self._sender.send_head(self, status, list(message.get("headers", ())), last=self._head_only)
            return
        if self.complete:
            raise RuntimeError(f"{message['type']} after the end of the response")
        last = not message.get("more_body", False)
        if not self._head_only:
            await self._sender.send_body(self, message.get("body", b""), last=last)
        if last:
            self.complete = True
            self._event.set()

    # time

    def _start_timer(self) -> None:
        self._received = 0
        self._timer = asyncio.get_running_loop().call_later(self._sender.limit, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        # What is unread holds the client up: that is not its fault.
        if self._received >= MIN_BODY_BYTES or self.unread_bytes:
            self._start_timer()
        else:
            sentence = f"the request was not sent whole within {self._sender.limit:g} s; send it faster."
            self._sender.refuse(self, SlowClient(sentence))


def scope_of(fields: Sequence[tuple[bytes, bytes]], common: Scope) -> Scope | None:
    """The ASGI scope of a request.

    Args:
        fields: The pseudo-headers and headers, as they came.
        common: What all requests of the connection have.

    Returns:
        None when it is none that can be served.
    """
    pseudo = {name: value for name, value in fields if name[:1] == b":"}
    target, method = pseudo.get(b":path"), pseudo.get(b":method", b"")
    if not target or not target.isascii() or not method.isascii() or method == b"CONNECT":
        return None
    if SPACE_OR_CONTROL.search(target + method) or CONTROL.search(b"".join(part for field in fields for part in field)):
        return None
    path, _, query = target.partition(b"?")
    text = path.decode()
    headers: Headers = [(bytes(name), bytes(value)) for name, value in fields if name[:1] != b":" and name != b"cookie"]
    cookies = [bytes(value) for name, value in fields if name == b"cookie"]
    if cookies:  # may be sent apart, which HTTP/1.1 forbids
        headers.append((b"cookie", b"; ".join(cookies)))
    authority = pseudo.get(b":authority")
    if authority is not None and all(name != b"host" for name, _ in headers):
        headers.insert(0, (b"host", bytes(authority)))
    return {
        **common,
        "method": method.decode(),
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "headers": headers,
    }
