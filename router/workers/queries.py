"""Requests that the router itself sends to one worker, such as for its server info."""

import asyncio
from collections.abc import Sequence

from router.errors import UpstreamFailed, UpstreamTimeout
from router.workers.worker import Worker

FETCH_TIMEOUT = 10.0  # seconds


async def fetch_body(worker: Worker, method: str, path: str, *, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
    """Fetch a response body within `timeout` seconds (`FETCH_TIMEOUT`); raises `RouterError` unless status is 200."""
    status, body, _ = await fetch_response(worker, method, path, timeout=timeout)
    if status != 200:
        raise UpstreamFailed(f"{worker.url} answered {path} with {status}.")
    return body


async def fetch_response(
    worker: Worker,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - part of the error it raises
) -> tuple[int, bytes, bytes | None]:
    """Fetch status, body and content type; raises `RouterError` if the complete response does not arrive in time."""
    timeout_secs = FETCH_TIMEOUT if timeout is None else timeout
    try:
        async with (
            asyncio.timeout(timeout_secs),
            await worker.origin.request(method, path, body, tuple(headers)) as response,
        ):
            return response.status, await response.read(), response.header(b"content-type")
    except TimeoutError:
        raise UpstreamTimeout(f"the worker {worker.url} did not answer {path} within {timeout_secs:g} s.") from None
