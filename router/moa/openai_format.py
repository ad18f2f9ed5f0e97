"""Responses and stream chunks in the form of OpenAI's chat and completions APIs."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

EndpointKind = Literal["chat", "completion"]


@dataclass(frozen=True)
class OpenAIFormat:
    """The form of one response and all its chunks.

    Attributes:
        kind: The API.
        id: The response's id.
        model: The model's or tree's name.
        created: Unix seconds.
    """

    kind: EndpointKind
    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def response(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """A complete response."""
        name = "chat.completion" if self.kind == "chat" else "text_completion"
        return {**self._head(name), "choices": choices, "usage": usage}

    def choice(self, index: int, text: str, finish_reason: str | None, output_ids: list[int]) -> dict[str, Any]:
        """A choice of a complete response."""
        extra = {"output_ids": output_ids} if output_ids else {}
        if self.kind == "chat":
            content: dict[str, Any] = {"message": {"role": "assistant", "content": text, **extra}}
        else:
            content = {"text": text, "logprobs": None, **extra}
        return {"index": index, **content, "finish_reason": finish_reason}

    def chunk(self, index: int, text: str, *, first: bool = False) -> dict[str, Any]:
        """A chunk with new text of a choice; the first chunk of a chat choice has the role."""
        if self.kind == "chat":
            delta = {"role": "assistant", "content": text} if first else {"content": text}
            return self._chunk({"index": index, "delta": delta, "finish_reason": None})
        return self._chunk({"index": index, "text": text, "logprobs": None, "finish_reason": None})

    def last_chunk(self, index: int, finish_reason: str | None) -> dict[str, Any]:
        """The chunk that ends a choice."""
        content: dict[str, Any] = {"delta": {}} if self.kind == "chat" else {"text": "", "logprobs": None}
        return self._chunk({"index": index, **content, "finish_reason": finish_reason})

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The chunk with the usage, which has no choice."""
        return {**self._chunk(), "usage": usage}

    def _chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        name = "chat.completion.chunk" if self.kind == "chat" else "text_completion"
        return {**self._head(name), "choices": list(choices)}

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.id, "object": name, "created": self.created, "model": self.model}
