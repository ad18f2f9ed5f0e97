"""Questions to one worker that are no client's request."""

import asyncio

from router.errors import UpstreamFailed, UpstreamTimeout
from router.workers.worker import Worker

FETCH_TIMEOUT = 10.0  # seconds


async def fetch_body(worker: Worker, method: str, path: str, *, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
    """A worker's whole answer, within `timeout` seconds (`FETCH_TIMEOUT`); raises `RouterError` unless it says 200."""
    status, answer, _ = await fetch_response(worker, method, path, timeout=timeout)
    if status != 200:
        raise UpstreamFailed(f"{worker.url} answered {path} with {status}.")
    return answer


async def fetch_response(
    worker: Worker,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - part of the error it raises
) -> tuple[int, bytes, bytes | None]:
    """Status, body and content type of a worker's whole answer; raises `RouterError` when it does not come in time."""
    limit = FETCH_TIMEOUT if timeout is None else timeout
    try:
        async with asyncio.timeout(limit), await worker.origin.request(method, path, body) as response:
            return response.status, await response.read(), response.header(b"content-type")
    except TimeoutError:
        raise UpstreamTimeout(f"the worker {worker.url} did not answer {path} within {limit:g} s.") from None
