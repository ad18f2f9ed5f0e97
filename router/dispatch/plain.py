"""Requests to a plain server: passed on as they are, to the one with the fewest under way."""

from collections.abc import Sequence

from router.http.asgi import SSE_HEADERS
from router.http.client_request import ClientRequest
from router.http_client.response import Response
from router.observability.tracing.leg_tracer import UNTRACED_LEG
from router.workers.worker import Worker


async def forward_to_plain(request: ClientRequest, workers: Sequence[Worker], path: str, raw: bytes) -> None:
    """Answer a request with what one of the workers answers; its connection ends with the request.

    Raises:
        RouterError: The worker failed.
    """
    worker = min(workers, key=lambda each: each.load)
    request.model, request.workers = worker.model, (worker.url,)
    request.attempts += 1
    worker.load += 1
    try:
        with UNTRACED_LEG if request.span is None else request.span.start_leg(worker, path) as leg:
            async with await worker.origin.request("POST", path, raw, leg.headers) as response:
                leg.response_started(response.status)
                await _pass_on(request, response)
    finally:
        worker.load -= 1


async def _pass_on(request: ClientRequest, response: Response) -> None:
    kind = response.header(b"content-type") or b"application/json"
    if not kind.startswith(b"text/event-stream"):
        await request.send_response(response.status, await response.read(), [(b"content-type", kind)])
        return
    request.streaming = True
    await request.send_headers(response.status, SSE_HEADERS)
    async for chunk in response.chunks():
        await request.send_chunk(chunk)
    await request.send_chunk(b"", more=False)
