"""Comments in a stream of server-sent events while the server says nothing, so that no proxy takes it for dead.

A comment is a line that begins with a colon, and every reader of such streams leaves it out. It comes after the status
and never inside an event.
"""

import asyncio
import logging

from router.http.asgi import Message, Send

logger = logging.getLogger(__name__)

COMMENT = b": keep-alive\n\n"
ENDS_OF_EVENTS = (b"\n\n", b"\n\r\n", b"\r\r")
LAST_EVENT = b"[DONE]\n\n"


class KeepAlive:
    """Sends the ASGI messages of one response, with comments in between if it is a stream of events.

    Args:
        send: Sends ASGI messages to the client.
        interval: Seconds without a message after which a comment is sent.
    """

    def __init__(self, send: Send, interval: float) -> None:
        self._send = send
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # set while comments may come
        self._sent_at = 0.0
        self._sending = False
        self._tail = b""  # the last bytes of the stream
        self._comment: asyncio.Task[None] | None = None

    async def __call__(self, message: Message) -> None:
        """Send a message; one at a time."""
        if message["type"] == "http.response.start":
            await self._send(message)
            if _is_stream(message):
                self._tail = ENDS_OF_EVENTS[0]
                self._arm(self._interval)
            return
        if self._timer is None:
            await self._send(message)
            return
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) or body.endswith(LAST_EVENT):
            self._disarm()
        self._sending = True
        try:
            if self._comment is not None:
                await asyncio.wait([self._comment])
            await self._send(message)
        finally:
            self._sending = False
        self._sent_at = self._loop.time()
        self._tail = (self._tail + body[-4:])[-4:]

    def close(self) -> None:
        """Send no more comments: the response has ended, however."""
        self._disarm()
        if self._comment is not None:
            self._comment.cancel()

    def _arm(self, seconds: float) -> None:
        self._sent_at = self._sent_at or self._loop.time()
        self._timer = self._loop.call_later(seconds, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        due_in = self._sent_at + self._interval - self._loop.time()
        if due_in > 0:
            self._arm(due_in)
            return
        # A client that does not read has enough to read.
        if not self._sending and self._comment is None and self._tail.endswith(ENDS_OF_EVENTS):
            self._comment = self._loop.create_task(self._send_comment())
        self._arm(self._interval)

    async def _send_comment(self) -> None:
        try:
            await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})
        except Exception as error:  # the client is gone; whoever sends the response will notice
            logger.debug("no comment could be sent: %s", error)
        finally:
            self._comment = None
        self._sent_at = self._loop.time()


def _is_stream(start: Message) -> bool:
    """Whether a response is a stream of events."""
    headers = start.get("headers", ())
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
