"""Which handler answers a path."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from router.errors import MethodNotAllowed, NotFound
from router.http.client_request import ClientRequest

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """A method of a path.

    Attributes:
        path: The path; one segment may be variable, written `{name}`.
        handler: Gets the request, and the variable segment where there is one.
        words: What it does, for the OpenAPI document.
        public: It needs no API key.
        limited: The limits of concurrency and rate hold for it.
        endpoint: Its name in metrics of routed requests; empty where nothing is routed.
        schema: JSON schema of the body, or None.
    """

    method: str
    path: str
    handler: Handler
    words: str
    public: bool = False
    limited: bool = False
    endpoint: str = ""
    schema: dict[str, Any] | None = None


class RouteTable:
    """All routes of a router."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = routes
        self._plain: dict[str, dict[str, Route]] = {}
        self._variable: dict[tuple[str, str], dict[str, Route]] = {}
        for route in routes:
            before, brace, rest = route.path.partition("{")
            if brace:
                self._variable.setdefault((before, rest.partition("}")[2]), {})[route.method] = route
            else:
                self._plain.setdefault(route.path, {})[route.method] = route

    def find(self, request: ClientRequest) -> tuple[Route, tuple[str, ...]]:
        """The route of a request, and its variable segment if it has one; raises `NotFound` or `MethodNotAllowed`."""
        variable: tuple[str, ...] = ()
        methods = self._plain.get(request.path)
        if methods is None:
            methods, variable = self._match(request.path)
        route = methods.get(request.method)
        if route is None:
            request.extra_headers.append((b"allow", ", ".join(methods).encode()))
            raise MethodNotAllowed(f"{request.path} takes {' or '.join(methods)}, not {request.method}.")
        return route, variable

    def _match(self, path: str) -> tuple[dict[str, Route], tuple[str, ...]]:
        for (before, after), methods in self._variable.items():
            middle = path[len(before) : len(path) - len(after)]
            if path.startswith(before) and path.endswith(after) and middle and "/" not in middle:
                return methods, (middle,)
        raise NotFound(f"there is no {path} here; GET /openapi.json tells all paths.")
