"""The access log: one line of JSON for each request."""

import logging
import re
import time

import orjson

from router.http.client_request import ClientRequest
from router.observability.logs import ACCESS_LOGGER, timestamp

logger = logging.getLogger(ACCESS_LOGGER)
_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def log_request(request: ClientRequest, error_code: str = "") -> None:
    """Log a finished request at level INFO; `error_code` is the kind of its error, empty without one."""
    if not logger.isEnabledFor(logging.INFO):
        return
    line: dict[str, object] = {
        "time": timestamp(time.time()),
        "id": request.id,
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "seconds": round(time.monotonic() - request.started_at, 6),
    }
    if request.span is not None:
        line["trace_id"], line["span_id"] = request.span.ids
    elif (theirs := _TRACEPARENT.fullmatch(request.header(b"traceparent") or "")) is not None:
        line["trace_id"] = theirs[1]
    if request.model is not None:
        line["model"] = request.model
    if request.workers:
        line.update(
            zip(("prefill", "decode") if len(request.workers) == 2 else ("worker",), request.workers, strict=True)
        )
        line["attempts"] = request.attempts
    if request.first_chunk_at is not None:
        line["ttft"] = round(request.first_chunk_at - request.started_at, 6)
    if request.streaming:
        line["stream"] = True
    if request.response_started and not request.response_complete:
        line["incomplete"] = True  # the client left, or its connection was closed to tell it of the error
    if error_code:
        line["error"] = error_code
    logger.info("%s", orjson.dumps(line).decode())
