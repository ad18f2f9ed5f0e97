"""Cross-origin resource sharing (CORS): which web pages may read the responses."""

from router.http.asgi import Headers
from router.http.client_request import ClientRequest

MAX_AGE = b"3600"  # seconds


class Cors:
    """Adds CORS headers and answers preflight requests; every origin is allowed unless some are named."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def headers(self, request: ClientRequest) -> Headers:
        """The headers to add to a response; none without an `Origin` header in the request."""
        origin = request.header(b"origin")
        if origin is None:
            return []
        if not self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
        headers: Headers = [(b"vary", b"origin")]
        if origin in self._origins:
            headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
            headers.append((b"access-control-expose-headers", b"x-request-id"))
        return headers

    def is_preflight(self, request: ClientRequest) -> bool:
        """Whether a request is a browser's preflight request."""
        return request.method == "OPTIONS" and request.header(b"access-control-request-method") is not None

    async def answer_preflight(self, request: ClientRequest) -> None:
        """Answer a preflight request."""
        headers: Headers = [
            (b"access-control-allow-methods", b"GET,POST,DELETE,OPTIONS"),
            (b"access-control-allow-headers", b"content-type,authorization,x-request-id"),
            (b"access-control-max-age", MAX_AGE),
        ]
        await request.send_response(200, b"", headers)
