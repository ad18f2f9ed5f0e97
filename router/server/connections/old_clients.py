"""Responses to clients of HTTP/1.0, which know no chunked encoding."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class UnchunkedCycle(RequestResponseCycle):
    """A request of HTTP/1.0 and its response.

    A response without a length is sent as it is, and ends where its connection does.
    """

    _ends_with_connection = False

    async def send(self, message: Any) -> None:
        """Send one ASGI message of the response."""
        if message["type"] == "http.response.start":
            if all(name != b"content-length" for name, _ in message.get("headers", ())):
                self._ends_with_connection, self.chunked_encoding = True, False
        elif self._ends_with_connection:
            self.expected_content_length = len(message.get("body", b""))  # uvicorn compares what is sent with it
        await super().send(message)
