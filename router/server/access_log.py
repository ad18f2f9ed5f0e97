"""One line of JSON for each request, for machines to read."""

import logging
import time

import orjson

from router.http.client_request import Call

logger = logging.getLogger("router.access")


def log(call: Call) -> None:
    """Write a request's line, at level INFO; costs nothing above it."""
    if not logger.isEnabledFor(logging.INFO):
        return
    line: dict[str, object] = {
        "id": call.id,
        "method": call.method,
        "path": call.path,
        "status": call.status,
        "seconds": round(time.monotonic() - call.began, 6),
    }
    if call.model is not None:
        line["model"] = call.model
    if call.workers:
        line.update(zip(("prefill", "decode") if len(call.workers) == 2 else ("worker",), call.workers, strict=True))
        line["attempts"] = call.attempts
    if call.first is not None:
        line["ttft"] = round(call.first - call.began, 6)
    logger.info("%s", orjson.dumps(line).decode())
