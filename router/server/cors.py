"""Cross-origin requests: which web pages may read the answers."""

from router.http.asgi import Headers
from router.http.client_request import ClientRequest

MAX_AGE = b"3600"  # seconds


class Cors:
    """Every origin may, unless some are named."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def headers(self, request: ClientRequest) -> Headers:
        """What is added to the answer; nothing when no web page asks."""
        origin = request.header(b"origin")
        if origin is None:
            return []
        if not self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
        named: Headers = [(b"vary", b"origin")]
        if origin in self._origins:
            named.append((b"access-control-allow-origin", origin.encode("latin-1")))
            named.append((b"access-control-expose-headers", b"x-request-id"))
        return named

    def asks(self, request: ClientRequest) -> bool:
        """Whether a browser asks what it may send, before it does."""
        return request.method == "OPTIONS" and request.header(b"access-control-request-method") is not None

    async def allow(self, request: ClientRequest) -> None:
        """Answer that."""
        headers: Headers = [
            (b"access-control-allow-methods", b"GET,POST,DELETE,OPTIONS"),
            (b"access-control-allow-headers", b"content-type,authorization,x-request-id"),
            (b"access-control-max-age", MAX_AGE),
        ]
        await request.send_response(200, b"", headers)
