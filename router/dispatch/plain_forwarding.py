"""Forwards client requests unchanged to the least loaded plain server, without retries."""

from collections.abc import Sequence

from router.dispatch.worker_errors import without_paths
from router.http.asgi import SSE_HEADERS
from router.http.client_request import ClientRequest
from router.http_client.response import Response
from router.observability.tracing.leg_tracer import UNTRACED_LEG
from router.workers.worker import Worker


async def forward_to_plain(
    request: ClientRequest, workers: Sequence[Worker], model: str, path: str, body: bytes
) -> None:
    """Send a client the response of the least loaded worker; cancelling it closes the worker's connection.

    Args:
        request: The client's request.
        workers: Plain servers of the model.
        model: The model that the body names.
        path: The path on the worker.
        body: The request body.

    Raises:
        RouterError: The worker failed.
    """
    worker = min(workers, key=lambda each: each.load)
    request.model, request.workers = model, (worker.url,)
    request.attempts += 1
    worker.load += 1
    try:
        with UNTRACED_LEG if request.span is None else request.span.start_leg(worker, path, model) as leg:
            async with await worker.origin.request("POST", path, body, leg.headers) as response:
                leg.response_started(response.status)
                await _send_response(request, response)
    finally:
        worker.load -= 1


async def _send_response(request: ClientRequest, response: Response) -> None:
    content_type = response.header(b"content-type") or b"application/json"
    if not content_type.startswith(b"text/event-stream"):
        body = await response.read()
        if response.status >= 400:
            body = without_paths(body)
        await request.send_response(response.status, body, [(b"content-type", content_type)])
        return
    request.streaming = True
    await request.send_headers(response.status, SSE_HEADERS)
    async for chunk in response.chunks():
        await request.send_chunk(chunk)
    await request.send_chunk(b"", more=False)
