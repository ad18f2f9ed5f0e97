"""The OpenAPI 3.1 document of the router's own paths: `/openapi.json`."""

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import orjson

from router.endpoints.routes import Route
from router.http.asgi import JSON_HEADERS
from router.http.client_request import ClientRequest

ERRORS = {
    400: "the request is wrong",
    401: "the API key is missing or wrong",
    403: "the API key lacks the right, or a web page of another origin may not do this",
    404: "no such model, worker or path",
    408: "the request waited too long for its turn, or was sent too slowly",
    409: "the worker is there already",
    413: "the body is over the limit",
    415: "the body is compressed",
    429: "the limits are reached; Retry-After says when to come again",
    431: "the request's head is over the limit",
    500: "the router failed",
    501: "not offered",
    502: "a worker failed",
    503: "no healthy worker",
    504: "a worker did not answer in time",
}
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
    """A handler that answers with the document, which is made when it is first asked for."""

    @cache
    def document() -> bytes:
        return orjson.dumps(openapi_document(routes))

    async def send_document(request: ClientRequest) -> None:
        await request.send_response(200, document(), JSON_HEADERS)

    return send_document


def openapi_document(routes: list[Route]) -> dict[str, Any]:
    """The document of the given routes."""
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
    content: dict[str, Any] = {route.content_type: {}}
    if route.endpoint:
        content["text/event-stream"] = {}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    if route.limited:  # a worker's own error passes through as it is
        error = {"application/json": {}, "text/plain": {}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}").strip("_").lower(),
        "responses": {
            str(route.status): {"description": "done", "content": content},
            **{str(status): {"description": meaning, "content": error} for status, meaning in ERRORS.items()},
        },
        "security": [{}] if route.right is None else [{"key": []}, {}],
    }
    if route.partial:
        operation["responses"]["206"] = {"description": "some workers did it, others did not", "content": content}
    names = re.findall(r"{(\w+)}", route.path)
    if names:
        pattern = ".+" if route.spans_segments else "^[^/]+$"
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
            for name in names
        ]
    if route.schema is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.schema}}}
    return operation
