"""OpenAI's forms of an answer: of chat and of completions, whole and in pieces."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

EndpointKind = Literal["chat", "completion"]


@dataclass(frozen=True)
class OpenAIFormat:
    """One answer's form.

    Attributes:
        kind: Whose form.
        id: The answer's id.
        model: The model's or tree's name.
    """

    kind: EndpointKind
    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """A whole answer."""
        name = "chat.completion" if self.kind == "chat" else "text_completion"
        return {**self._head(name), "choices": choices, "usage": usage}

    def choice(self, index: int, text: str, finish: str | None, output_ids: list[int]) -> dict[str, Any]:
        """A choice of a whole answer."""
        extra = {"output_ids": output_ids} if output_ids else {}
        if self.kind == "chat":
            said: dict[str, Any] = {"message": {"role": "assistant", "content": text, **extra}}
        else:
            said = {"text": text, "logprobs": None, **extra}
        return {"index": index, **said, "finish_reason": finish}

    def piece(self, index: int, text: str, *, first: bool = False) -> dict[str, Any]:
        """An event with new text."""
        if self.kind == "chat":
            delta = {"role": "assistant", "content": text} if first else {"content": text}
            return self._event({"index": index, "delta": delta, "finish_reason": None})
        return self._event({"index": index, "text": text, "logprobs": None, "finish_reason": None})

    def last(self, index: int, finish: str | None) -> dict[str, Any]:
        """The event that ends a choice."""
        said: dict[str, Any] = {"delta": {}} if self.kind == "chat" else {"text": "", "logprobs": None}
        return self._event({"index": index, **said, "finish_reason": finish})

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        """The event with the usage, which has no choice."""
        return {**self._event(), "usage": usage}

    def _event(self, *choices: dict[str, Any]) -> dict[str, Any]:
        name = "chat.completion.chunk" if self.kind == "chat" else "text_completion"
        return {**self._head(name), "choices": list(choices)}

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.id, "object": name, "created": self.created, "model": self.model}
