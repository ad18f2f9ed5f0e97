"""What a client's answer tells as it goes out: when it began, whether it is whole, its tokens and its end.

Nothing is kept but references to the last chunks, which are read once the answer is over.
"""

import time
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

CHUNKS = 4  # of a stream: the last piece, its finish reason, its usage, [DONE]
MOST = 256 * 1024  # bytes of them that are read


@dataclass
class AnswerSummary:
    """What an answer says of itself.

    Attributes:
        tokens: Of prompt and answer, where it says so.
        finish_reasons: Of its choices.
        error: The type of the error that a stream ended with.
    """

    tokens: tuple[int, int] | None = None
    finish_reasons: list[str] = field(default_factory=list)
    error: str | None = None


class AnswerWatch:
    """Sees the messages of one answer.

    Attributes:
        streamed: Whether it is a stream.
        first: When its body began, in ns since the epoch.
        whole: Whether its end was sent.
    """

    def __init__(self) -> None:
        self.streamed = False
        self.first: int | None = None
        self.whole = False
        self._tail: deque[bytes] = deque(maxlen=CHUNKS)

    def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Another message goes out."""
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            self.streamed = any(kind.startswith(b"text/event-stream") for kind in kinds)
            return
        if body := message.get("body", b""):
            self.first = self.first or time.time_ns()
            self._tail.append(body)
        self.whole = not message.get("more_body", False)

    def told(self) -> AnswerSummary:
        """What the answer said at its end; nothing where that is too long or in another form."""
        told = AnswerSummary()
        if sum(map(len, self._tail)) > MOST:
            return told
        raw = b"".join(self._tail)
        lines = [line[5:] for line in raw.split(b"\n") if line.startswith(b"data:")] if self.streamed else [raw]
        for line in lines:
            try:
                value = orjson.loads(line)
                for each in value if isinstance(value, list) else [value]:
                    _read(each, told)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that was cut, [DONE], or another form
        return told


def _read(value: dict[str, Any], told: AnswerSummary) -> None:
    """One event, or the whole answer: of OpenAI's API, or of `/generate`."""
    if isinstance(error := value.get("error"), dict):
        told.error = str(error.get("type") or error.get("code"))
    if (usage := value.get("usage")) is not None:
        told.tokens = (int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
    for choice in value.get("choices", ()):
        if reason := choice.get("finish_reason"):
            told.finish_reasons.append(str(reason))
    meta = value.get("meta_info")
    if "index" in value:
        return  # of several prompts in one stream: the others' ends may be among the chunks that are gone
    if meta is not None and (reason := meta.get("finish_reason")) is not None:
        told.finish_reasons.append(str(reason["type"]))
        before = told.tokens or (0, 0)
        told.tokens = (before[0] + int(meta["prompt_tokens"]), before[1] + int(meta["completion_tokens"]))
