"""JSON requests to the servers and the router."""

from typing import Any

import orjson

from router.errors import RouterError
from router.http_client.origin import Origin

RESPONSE_TIMEOUT_SECONDS = 30.0


async def get_json(
    origin: Origin,
    path: str,
    body: Any = None,
    *,
    timeout: float | None = RESPONSE_TIMEOUT_SECONDS,  # noqa: ASYNC109 - handed on
) -> Any:
    """A server's JSON response; POST when there is a body. Raises `RouterError` unless the status is 200."""
    raw = b"" if body is None else orjson.dumps(body)
    async with await origin.request("GET" if body is None else "POST", path, raw, timeout=timeout) as response:
        answer = await response.read()
    if response.status != 200:
        raise RouterError(f"{origin.url}{path} answered {response.status}: {answer[:500].decode(errors='replace')}")
    return orjson.loads(answer) if answer else None
