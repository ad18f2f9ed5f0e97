"""Requests to a plain server: passed on as they are, to the one with the fewest under way."""

from collections.abc import Sequence

from router.http.asgi import SSE_HEADERS
from router.http.client_request import Call
from router.http_client.origin import Response
from router.observability.tracing.legs import NO_LEG
from router.workers.worker import Worker


async def forward(call: Call, workers: Sequence[Worker], path: str, raw: bytes) -> None:
    """Answer a call with what one of the workers answers; its connection ends with the call.

    Raises:
        RouterError: The worker failed.
    """
    worker = min(workers, key=lambda each: each.load)
    call.model, call.workers = worker.model, (worker.url,)
    call.attempts += 1
    worker.load += 1
    try:
        with NO_LEG if call.span is None else call.span.leg(worker, path) as leg:
            async with await worker.origin.request("POST", path, raw, leg.headers) as response:
                leg.answered(response.status)
                await _pass_on(call, response)
    finally:
        worker.load -= 1


async def _pass_on(call: Call, response: Response) -> None:
    kind = response.header(b"content-type") or b"application/json"
    if not kind.startswith(b"text/event-stream"):
        await call.answer(response.status, await response.read(), [(b"content-type", kind)])
        return
    call.streaming = True
    await call.send_head(response.status, SSE_HEADERS)
    async for chunk in response.chunks():
        await call.send_chunk(chunk)
    await call.send_chunk(b"", more=False)
