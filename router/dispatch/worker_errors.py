"""Finds error messages in workers' responses."""

import orjson

MAX_MESSAGE = 2000  # characters; a worker may quote the request


def abort_reason(body: bytes) -> str | None:
    """Why a worker aborted a request after its response had started with 200; None if it did not.

    SGLang reports that only in the finish reason. `body` is a JSON body or a part of an event stream.
    """
    if b'"abort"' not in body:
        return None
    for line in body.splitlines():
        try:
            output = orjson.loads(line.removeprefix(b"data: "))
            for each in output if isinstance(output, list) else [output]:
                finish_reason = each["meta_info"]["finish_reason"]
                if finish_reason["type"] == "abort":
                    return str(finish_reason.get("message") or "no cause was given")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


def error_message(body: bytes) -> str:
    """The start of the error message in a worker's response body, or of the body if it has none."""
    return _error_message(body)[:MAX_MESSAGE]


def _error_message(body: bytes) -> str:
    try:
        response = orjson.loads(body)
        error = response.get("error", response)
        return error if isinstance(error, str) else str(error.get("message", error))
    except (orjson.JSONDecodeError, AttributeError):
        return body[:200].decode(errors="replace")
