"""Prompt templates: token ids with slots for the answers of upstream agents.

In text a slot is written as a placeholder, `<|answer:NAME|>`. The model's chat template is rendered once, with the
placeholders in it, and split at them. Each literal between them is tokenized by itself, so its ids do not depend on
the answers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from router.errors import BadRequest
from router.speculative_prefill.tokenizer import WorkerTokenizer

AGENT_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"


def placeholder(name: str, nonce: str = "") -> str:
    """The placeholder of an answer; a nonce tells a run's own placeholders from those in a client's text."""
    return f"<|answer:{nonce}{name}|>"


def _placeholder_pattern(nonce: str) -> re.Pattern[str]:
    return re.compile(rf"<\|answer:{re.escape(nonce)}({AGENT_NAME})\|>")


PLACEHOLDER = _placeholder_pattern("")


@dataclass(frozen=True)
class PromptTemplate:
    """`literals[0] + answer of slots[0] + literals[1] + ... + literals[-1]`.

    Attributes:
        literals: Token ids around the slots, one literal more than there are slots; a literal may be empty.
        slots: Names of the agents whose answers go there.
    """

    literals: tuple[tuple[int, ...], ...]
    slots: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.literals) == len(self.slots) + 1

    def with_slots(self, names: Mapping[str, str]) -> "PromptTemplate":
        """The same template with other names for its slots; `names` has the new one of each."""
        return replace(self, slots=tuple(names[slot] for slot in self.slots))

    @classmethod
    async def of_messages(
        cls,
        tokenizer: WorkerTokenizer,
        messages: list[dict[str, Any]],
        nonce: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> "PromptTemplate":
        """The model's own chat template over messages with placeholders; `options` as of `WorkerTokenizer.render`.

        A template that refuses the system role gets the system prompt before the user's first message.

        Raises:
            BadRequest: The chat template changed a placeholder, or the messages do not fit it.
        """
        pattern = _placeholder_pattern(nonce)
        ids = await _render(tokenizer, messages, options)
        expected = [name for message in messages for name in pattern.findall(str(message.get("content", "")))]
        if not expected:
            return cls((tuple(ids),), ())
        text = await tokenizer.decode(ids)
        template = await cls.of_text(tokenizer, text, nonce)
        if sorted(template.slots) != sorted(expected):
            raise BadRequest("the model's chat template does not keep <|answer:NAME|>; use `text` or `input_ids`.")
        return template

    @classmethod
    async def of_text(cls, tokenizer: WorkerTokenizer, text: str, nonce: str = "") -> "PromptTemplate":
        """Plain text with placeholders; special tokens are not added."""
        *parts, last = _placeholder_pattern(nonce).split(text)  # literal, name, literal, name, ..., literal
        literals = await tokenizer.encode_all([*parts[::2], last])
        return cls(tuple(map(tuple, literals)), tuple(parts[1::2]))

    @classmethod
    def of_ids(cls, items: Iterable[int | str]) -> "PromptTemplate":
        """Token ids with placeholders as strings among them.

        Raises:
            BadRequest: An item is neither a token id nor a placeholder.
        """
        literals: list[list[int]] = [[]]
        slots = []
        for item in items:
            match = PLACEHOLDER.fullmatch(item) if isinstance(item, str) else None
            if match is not None:
                slots.append(match[1])
                literals.append([])
            elif type(item) is int and item >= 0:
                literals[-1].append(item)
            else:
                raise BadRequest(f"`input_ids` holds {item!r}; give token ids and places like '<|answer:NAME|>'.")
        return cls(tuple(map(tuple, literals)), tuple(slots))


async def _render(
    tokenizer: WorkerTokenizer, messages: list[dict[str, Any]], options: Mapping[str, Any] | None
) -> list[int]:
    try:
        return await tokenizer.render(messages, options)
    except BadRequest as refused:
        merged = without_system_role(messages)
        if merged is None:
            raise
        try:
            return await tokenizer.render(merged, options)
        except BadRequest:
            raise refused from None


def without_system_role(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The conversation with its system prompt before the user's first message; None if that is not possible."""
    if not messages or messages[0].get("role") != "system":
        return None
    system, *others = messages
    at = next((index for index, message in enumerate(others) if message.get("role") == "user"), None)
    if at is None:
        return None
    user = {**others[at], "content": f"{system.get('content') or ''}\n\n{others[at].get('content') or ''}"}
    return [*others[:at], user, *others[at + 1 :]]
