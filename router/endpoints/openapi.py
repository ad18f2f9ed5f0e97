"""The OpenAPI document of the router's own paths."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from router.endpoints.routes import Route
from router.http.asgi import JSON_HEADERS
from router.http.client_request import ClientRequest

ERRORS = {
    400: "the request is wrong",
    401: "the API key is missing or wrong",
    404: "no such model, worker or path",
    408: "the request waited too long for its turn, or was sent too slowly",
    409: "the worker is there already",
    413: "the body is over the limit",
    429: "the limits are reached; Retry-After says when to come again",
    431: "the request's head is over the limit",
    500: "the router failed",
    501: "not offered",
    502: "a worker failed",
    503: "no healthy worker",
    504: "a worker did not answer in time",
}
KINDS = {"/metrics": "text/plain", "/liveness": "text/plain", "/runs/{id}/timeline": "text/html"}  # of good answers
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "integer"},
            },
        }
    },
}


def openapi_handler(routes: list[Route]) -> Callable[[ClientRequest], Awaitable[None]]:
    """A handler that answers with the document, made once."""
    raw = orjson.dumps(openapi_document(routes))

    async def answer(request: ClientRequest) -> None:
        await request.send_response(200, raw, JSON_HEADERS)

    return answer


def openapi_document(routes: list[Route]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Faster-MoA router", "version": "0.1.0"},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR_SCHEMA},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    kinds: dict[str, Any] = {KINDS.get(route.path, "application/json"): {}}
    if route.endpoint:
        kinds["text/event-stream"] = {}
    good = "202" if route.path.startswith("/workers") and route.method in {"POST", "DELETE"} else "200"
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    if route.limited:  # a worker's own words pass through as they are
        error = {"application/json": {}, "text/plain": {}}
    operation: dict[str, Any] = {
        "summary": route.words,
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}").strip("_").lower(),
        "responses": {
            good: {"description": "done", "content": kinds},
            **{str(status): {"description": words, "content": error} for status, words in ERRORS.items()},
        },
        "security": [{}] if route.public else [{"key": []}, {}],
    }
    names = re.findall(r"{(\w+)}", route.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}
            for name in names
        ]
    if route.schema is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.schema}}}
    return operation
