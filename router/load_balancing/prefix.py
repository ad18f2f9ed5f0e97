"""The prompt of a request as a policy sees it: text or token ids, before any template or tokenizer."""

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PromptKind = Literal["text", "tokens"]
_UTF32 = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"


@dataclass(frozen=True, slots=True)
class PromptPrefix:
    """A prompt, never empty, that is comparable with others of its kind.

    Attributes:
        chars: The text; or one character a token id, so that both kinds are compared at memory speed.
        kind: Which of the two; text and ids are never compared with each other.
    """

    chars: str
    kind: PromptKind = "text"


def prompt_prefix(body: dict[str, Any]) -> PromptPrefix | None:
    """The prompt in the body of `/generate`, `/v1/completions` or `/v1/chat/completions`.

    A batch is known by its first prompt. None where there is no prompt or it has an odd form: it is
    for the server to refuse the request in its own words.
    """
    messages = body.get("messages")
    if isinstance(messages, list):
        return _text("\n".join(_words(messages)))
    for name in ("text", "input_ids", "prompt"):
        if (given := body.get(name)) is not None:
            return _first(given)
    return None


def token_prefix(ids: Sequence[int]) -> PromptPrefix | None:
    """The prompt of these token ids; None where there is none or one is no id."""
    try:
        chars = array("I", ids).tobytes().decode(_UTF32, "surrogatepass")
    except (TypeError, OverflowError, UnicodeDecodeError):  # above 0x10FFFF no character is left
        return None
    return PromptPrefix(chars, "tokens") if chars else None


def _text(text: str) -> PromptPrefix | None:
    return PromptPrefix(text) if text else None


def _first(given: Any) -> PromptPrefix | None:
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        given = given[0]
    if isinstance(given, str):
        return _text(given)
    return token_prefix(given) if isinstance(given, list) else None


def _words(messages: Iterable[Any]) -> Iterable[str]:
    """Roles and texts in order. Images and tools are left out: to guess wrong costs one prefill, no answer."""
    for message in messages:
        if not isinstance(message, dict):
            continue
        if isinstance(role := message.get("role"), str):
            yield role
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                    yield text
