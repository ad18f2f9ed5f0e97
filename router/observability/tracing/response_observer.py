"""Observes a response to a client while it is sent: its start, its end, usage and finish reasons.

Only references to the last chunks are kept; they are parsed once the response is over.
"""

import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

LAST_CHUNKS = 4  # of a stream: the last text, the finish reason, the usage, [DONE]
MAX_PARSED_BYTES = 256 * 1024  # of the last chunks


@dataclass
class ResponseSummary:
    """What the end of a response says.

    Attributes:
        tokens: Prompt and completion tokens; None where the response does not tell.
        finish_reasons: The finish reasons of its choices.
        error: The type of the error that ended a stream.
    """

    tokens: tuple[int, int] | None = None
    finish_reasons: list[str] = field(default_factory=list)
    error: str | None = None


class ResponseObserver:
    """Called with each ASGI message of one response.

    Attributes:
        streamed: Whether the response is an event stream.
        first_chunk_ns: When its body started, in ns since the epoch.
        complete: Whether its end was sent.
    """

    def __init__(self) -> None:
        self.streamed = False
        self.first_chunk_ns: int | None = None
        self.complete = False
        self._last_chunks: deque[bytes] = deque(maxlen=LAST_CHUNKS)

    def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Observe a message before it is sent."""
        if message["type"] == "http.response.start":
            content_types = [value for name, value in message["headers"] if name == b"content-type"]
            self.streamed = any(value.startswith(b"text/event-stream") for value in content_types)
            return
        if body := message.get("body", b""):
            self.first_chunk_ns = self.first_chunk_ns or time.time_ns()
            self._last_chunks.append(body)
        self.complete = not message.get("more_body", False)

    def summary(self) -> ResponseSummary:
        """What the last chunks say; empty where they are too long or in an unknown form."""
        summary = ResponseSummary()
        if sum(map(len, self._last_chunks)) > MAX_PARSED_BYTES:
            return summary
        raw = b"".join(self._last_chunks)
        payloads = [line[5:] for line in raw.splitlines() if line.startswith(b"data:")] if self.streamed else [raw]
        for payload in payloads:
            try:
                value = orjson.loads(payload)
                for result in value if isinstance(value, list) else [value]:
                    _add(result, summary)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that was cut, [DONE], or an unknown form
        return summary


def _add(result: dict[str, Any], summary: ResponseSummary) -> None:
    """Add one event or a whole response, of OpenAI's API or of `/generate`, to the summary."""
    if isinstance(error := result.get("error"), dict):
        summary.error = str(error.get("type") or error.get("code"))
    if (usage := result.get("usage")) is not None:
        summary.tokens = (int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
    for choice in result.get("choices", ()):
        if reason := choice.get("finish_reason"):
            summary.finish_reasons.append(str(reason))
    meta = result.get("meta_info")
    if "index" in result:
        return  # one of several prompts in a stream: the ends of the others may be in chunks that are gone
    if meta is not None and (reason := meta.get("finish_reason")) is not None:
        summary.finish_reasons.append(str(reason["type"]))
        so_far = summary.tokens or (0, 0)
        summary.tokens = (so_far[0] + int(meta["prompt_tokens"]), so_far[1] + int(meta["completion_tokens"]))
