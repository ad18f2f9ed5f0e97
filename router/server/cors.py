"""Cross-origin resource sharing (CORS): what web pages of other origins may ask for, and read.

Paths for data are open to pages of every origin, unless some origins are named. Paths that control the router, or tell
of others' requests, are open to pages of named origins only. A page can send a request without asking first, and does
so without being able to read the answer, so those paths refuse the request itself.
"""

import re

from router.endpoints.routes import Route, RouteTable
from router.errors import Forbidden, NotFound
from router.http.asgi import Headers
from router.http.client_request import ClientRequest

MAX_AGE = b"3600"  # seconds
USUAL_HEADERS = "content-type,authorization,x-request-id"
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MAX_HEADERS = 100  # that a page may ask for


class Cors:
    """Adds CORS headers, answers preflight requests, and refuses requests of web pages that may not make them.

    Args:
        origins: The origins that may use every path; without any, all origins may use the paths for data.
        routes: Which paths there are.
    """

    def __init__(self, origins: tuple[str, ...], routes: RouteTable) -> None:
        self._origins = frozenset(origins)
        self._routes = routes

    def add_headers(self, request: ClientRequest) -> None:
        """Add headers to a response, also to one that says what is wrong; none if no web page made the request."""
        origin = request.header(b"origin")
        if origin is None:
            return
        if self._origins:
            request.extra_headers.append((b"vary", b"origin"))
        if origin in self._origins:
            request.extra_headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
            request.extra_headers.append((b"access-control-expose-headers", b"x-request-id"))
        elif not self._origins and self._is_open(request.path):
            request.extra_headers.append((b"access-control-allow-origin", b"*"))
            request.extra_headers.append((b"access-control-expose-headers", b"*"))

    def check(self, request: ClientRequest, route: Route) -> None:
        """Raise `Forbidden` for a request that a web page may not make."""
        if route.cross_origin:
            return
        origin = request.header(b"origin")
        if origin is not None and origin not in self._origins:
            raise Forbidden(
                f"web pages of {origin[:200]!r} may not use {route.path}; --cors-allowed-origins names those that may."
            )

    def is_preflight(self, request: ClientRequest) -> bool:
        """Whether a request is a browser's preflight request."""
        return request.method == "OPTIONS" and request.header(b"access-control-request-method") is not None

    async def answer_preflight(self, request: ClientRequest) -> None:
        """Answer a preflight request; raises `NotFound` for a path that is not there, and as `check`."""
        routes = self._routes.of_path(request.path)
        for route in routes:
            self.check(request, route)
        methods = [route.method for route in routes]
        headers: Headers = [
            (b"access-control-allow-methods", ",".join([*methods, "OPTIONS"]).encode()),
            (b"access-control-allow-headers", self._allowed_headers(request, routes).encode()),
            (b"access-control-max-age", MAX_AGE),
        ]
        await request.send_response(200, b"", headers)

    @staticmethod
    def _allowed_headers(request: ClientRequest, routes: list[Route]) -> str:
        """The headers that a page may send: on paths for data those that it asks for, since SDKs have their own."""
        asked = request.header(b"access-control-request-headers")
        if asked is None or not all(route.cross_origin for route in routes):
            return USUAL_HEADERS
        names = [name.strip() for name in asked.split(",", MAX_HEADERS)]
        return ",".join(name for name in names if HEADER_NAME.fullmatch(name)) or USUAL_HEADERS

    def _is_open(self, path: str) -> bool:
        """Whether pages of all origins may use a path; one that is not there tells nothing."""
        try:
            return all(route.cross_origin for route in self._routes.of_path(path))
        except NotFound:
            return True
