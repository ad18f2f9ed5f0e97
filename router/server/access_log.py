"""The access log: one line of JSON for each request."""

import logging
import time

import orjson

from router.http.client_request import ClientRequest

logger = logging.getLogger("router.access")


def log_request(request: ClientRequest) -> None:
    """Log a finished request at level INFO."""
    if not logger.isEnabledFor(logging.INFO):
        return
    line: dict[str, object] = {
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
    logger.info("%s", orjson.dumps(line).decode())
