"""The access log: one line of JSON for each request."""

import logging
import time

import orjson

from router.http.client_request import ClientRequest
from router.observability.logs import ACCESS_LOGGER, timestamp

logger = logging.getLogger(ACCESS_LOGGER)


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
