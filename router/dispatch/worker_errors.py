"""What a worker's answer says about an error."""

import orjson


def abort_cause(answer: bytes) -> str | None:
    """Why a worker gave a request up after its answer had begun with 200; None when it did not.

    SGLang tells a stream's refusal, and an abort, only in the finish reason.
    """
    if b'"abort"' not in answer:
        return None
    for line in answer.splitlines():
        try:
            told = orjson.loads(line.removeprefix(b"data: "))
            for each in told if isinstance(told, list) else [told]:
                reason = each["meta_info"]["finish_reason"]
                if reason["type"] == "abort":
                    return str(reason.get("message") or "no cause was given")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


def error_message(raw: bytes) -> str:
    """A worker's own words about an error."""
    try:
        told = orjson.loads(raw)
        error = told.get("error", told)
        return error if isinstance(error, str) else str(error.get("message", error))
    except (orjson.JSONDecodeError, AttributeError):
        return raw[:200].decode(errors="replace")
