"""Routes: from a method and a path to a handler."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from router.access.client import Right
from router.errors import MethodNotAllowed, NotFound
from router.http.client_request import ClientRequest

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """A method of a path.

    Attributes:
        method: The HTTP method.
        path: The path; one segment may be a parameter, written `{name}`.
        spans_segments: The parameter is the rest of the path, and may have slashes.
        handler: Gets the request, and the value of the path's parameter if it has one.
        summary: What it does, for the OpenAPI document.
        right: What a client must be allowed to use it; None for everybody, without a key too.
        cross_origin: Web pages of any origin may use it, unless some origins are named; other paths control the
            router, or tell of others' requests.
        limited: It counts for the limits of concurrency and rate.
        endpoint: Its name in metrics of routed requests; empty if it routes nothing.
        schema: JSON schema of the body; None without a body.
        status: Of a successful response.
        partial: Whether it may succeed in part, with status 206.
        content_type: Of a successful response.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    right: Right | None
    cross_origin: bool = False
    limited: bool = False
    endpoint: str = ""
    schema: dict[str, Any] | None = None
    spans_segments: bool = False
    status: int = 200
    partial: bool = False
    content_type: str = "application/json"


class RouteTable:
    """Finds the route of a request."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = routes
        self._fixed: dict[str, dict[str, Route]] = {}
        self._with_parameter: dict[tuple[str, str], dict[str, Route]] = {}
        for route in routes:
            before, brace, rest = route.path.partition("{")
            if brace:
                self._with_parameter.setdefault((before, rest.partition("}")[2]), {})[route.method] = route
            else:
                self._fixed.setdefault(route.path, {})[route.method] = route

    def find(self, request: ClientRequest) -> tuple[Route, tuple[str, ...]]:
        """The route of a request, and its path parameter if it has one; raises `NotFound` or `MethodNotAllowed`.

        HEAD has the route of GET; the connection sends no body for it.
        """
        methods, parameters = self._match(request.path)
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = [*methods, "HEAD"] if "GET" in methods else [*methods]
            request.extra_headers.append((b"allow", ", ".join(allowed).encode()))
            raise MethodNotAllowed(f"{request.path} takes {' or '.join(methods)}, not {request.method}.")
        return route, parameters

    def of_path(self, path: str) -> list[Route]:
        """The routes of a path, one for each of its methods; raises `NotFound`."""
        return list(self._match(path)[0].values())

    def _match(self, path: str) -> tuple[dict[str, Route], tuple[str, ...]]:
        """The routes of a path by method, and its parameter if it has one; raises `NotFound`."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, ()
        for (before, after), methods in self._with_parameter.items():
            value = path[len(before) : len(path) - len(after)]
            if path.startswith(before) and path.endswith(after) and value:
                spans_segments = any(route.spans_segments for route in methods.values())
                if spans_segments or "/" not in value:
                    return methods, (value,)
        raise NotFound(f"there is no {path} here; GET /openapi.json tells all paths.")
