"""The prompt of a request as a policy sees it: text, messages or token ids, before chat template and tokenizer."""

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PromptKind = Literal["text", "messages", "tokens"]
TOKEN_CHARACTERS = 4  # of English text for each token; an id also takes up to four bytes
_UTF32 = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"


@dataclass(frozen=True, slots=True)
class PromptPrefix:
    """A non-empty prompt in a form that is fast to compare.

    Attributes:
        chars: The text, of messages with their roles; for token ids a string with one character for each id.
        kind: What it was made from. Prompts of different kinds must not be compared: servers see messages under a chat
            template, and what the ids mean is not known here.
    """

    chars: str
    kind: PromptKind = "text"

    @property
    def unit(self) -> int:
        """How many characters of text each of `chars` stands for, where sizes of different kinds are compared."""
        return TOKEN_CHARACTERS if self.kind == "tokens" else 1


def prompt_prefix(body: Mapping[str, Any]) -> PromptPrefix | None:
    """The prompt in a body: its messages, or its text, input or token ids; of a batch the first one.

    None if there is no prompt or it has an unexpected form; the server will refuse such a request.
    """
    for name in ("messages", "input"):  # of `/v1/responses`, `input` may be a list of messages too
        messages = body.get(name)
        if isinstance(messages, list) and (name == "messages" or (messages and isinstance(messages[0], dict))):
            return _text_prefix("\n".join(_message_texts(messages)), "messages")
    for name in ("text", "input_ids", "prompt", "input"):
        if (prompt := body.get(name)) is not None:
            return _first_prompt(prompt)
    return None


def token_prefix(token_ids: Sequence[int]) -> PromptPrefix | None:
    """The prompt with these token ids; None if there are none or one is not a valid id."""
    try:
        chars = array("I", token_ids).tobytes().decode(_UTF32, "surrogatepass")
    except (TypeError, OverflowError, UnicodeDecodeError):  # there are no characters above 0x10FFFF
        return None
    return PromptPrefix(chars, "tokens") if chars else None


def _text_prefix(text: str, kind: PromptKind = "text") -> PromptPrefix | None:
    return PromptPrefix(text, kind) if text else None


def _first_prompt(prompt: Any) -> PromptPrefix | None:
    """The prefix of a `text`, `input_ids`, `prompt` or `input` field; of a batch, of its first prompt."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _text_prefix(prompt)
    return token_prefix(prompt) if isinstance(prompt, list) else None


def _message_texts(messages: Iterable[Any]) -> Iterable[str]:
    """Roles and texts in order. Images and tools are left out: a wrong guess costs only a cache hit."""
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
