"""Finds errors in workers' responses, and takes out of them what clients must not see."""

import re
from typing import Any

import orjson

from router.errors import RouterError, UpstreamFailed

MAX_MESSAGE = 2000  # characters; a worker may quote the request
# What SGLang and its libraries add to their messages: a time and a C++ source line, a traceback, the places of a
# validation error.
_TRACES = re.compile(
    r"\[\d\d:\d\d:\d\d\] (?=/)"
    r"|Traceback \(most recent call last\):\n?"
    r"|^\s*File \"[^\"\n]*\", line \d+.*(\n {4,}.*)*\n?"
    r"|(?<![\w:/.])/(?:[\w.@+-]+/)+[\w.@+-]*\.(?:py|cc|cpp|h|hpp|cu|rs|so)\b(?::\d+)?:?\s*",
    re.MULTILINE,
)


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


def is_unknown_path(status: int, body: bytes) -> bool:
    """Whether a response is FastAPI's for a path that the server does not have. SGLang and vLLM use FastAPI."""
    return status in (404, 405) and body in (b'{"detail":"Not Found"}', b'{"detail":"Method Not Allowed"}')


def error_message(body: bytes) -> str:
    """The start of the error message in a worker's response body, or of the body if it has none."""
    return _error_message(body)[:MAX_MESSAGE]


def _error_message(body: bytes) -> str:
    try:
        response = orjson.loads(body)
        error = response.get("error", response)
        return without_traces(error if isinstance(error, str) else str(error.get("message", error)))
    except (orjson.JSONDecodeError, AttributeError):
        return without_traces(body[:200].decode(errors="replace"))


def without_traces(message: str) -> str:
    """A worker's message without tracebacks and paths of source files, which reveal where it is installed."""
    return _TRACES.sub("", message).strip()


def without_paths(body: bytes) -> bytes:
    """A worker's error response with `without_traces` for each message; unchanged if there is nothing to leave out."""
    if b"/" not in body and b"Traceback" not in body:
        return body
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace")
        return body if (clean := without_traces(text)) == text.strip() else clean.encode()
    clean_response = _clean(response)
    return body if clean_response == response else orjson.dumps(clean_response)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_traces(value) if _TRACES.search(value) else value
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {key: _clean(each) for key, each in value.items()}
    return value


def refusal_in_stream(first_chunk: bytes) -> tuple[int, bytes] | None:
    """Status and body of the refusal that a stream begins with; None if it begins with none.

    SGLang may refuse a request only after it has begun a stream with status 200.
    """
    code, message = _first_error(first_chunk)
    if not 400 <= code < 500:
        return None
    return code, orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}})


def raise_failure(first_chunk: bytes, cause: RouterError | None = None) -> None:
    """Raise the failure that a stream begins with, such as that of a decode server whose prefill server ended.

    SGLang may report it only after it has begun a stream with status 200. Nothing of the answer was made, so another
    attempt may succeed.

    Raises:
        RouterError: The `cause`, where it is known.
        UpstreamFailed: Otherwise.
    """
    code, message = _first_error(first_chunk)
    if code < 500:
        return
    failure = UpstreamFailed(f"a server gave the request up with {code}: {message[:MAX_MESSAGE]}")
    failure.upstream_status = code
    try:
        raise cause or failure
    finally:
        del failure, cause  # their tracebacks refer to this frame: a reference cycle


def _first_error(first_chunk: bytes) -> tuple[int, str]:
    """Code and message of the error that a stream begins with; 0 if it begins with none, or one without a code."""
    if not first_chunk.startswith(b'data: {"error"') and not (b'"abort"' in first_chunk and abort_reason(first_chunk)):
        return 0, ""
    try:
        event = orjson.loads(first_chunk.partition(b"\n")[0].removeprefix(b"data: "))
        if "error" in event:
            message, code = event["error"]["message"], event["error"]["code"]
        else:
            reason = event["meta_info"]["finish_reason"]
            message, code = reason["message"], reason["status_code"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0, ""
    return (code, without_traces(str(message))) if isinstance(code, int) else (0, "")
