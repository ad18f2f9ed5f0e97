"""A prompt with places for answers.

In text a place is written `<|answer:NAME|>`. The chat template is rendered once, with the places in
it, and cut at them; each piece between is tokenized apart, so that its ids do not depend on what an
answer turns out to be.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from router.errors import BadRequest
from router.speculative_prefill.tokenizer import WorkerTokenizer

AGENT_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"


def placeholder(name: str, nonce: str = "") -> str:
    """How the place of an answer is written; a nonce tells a run's own places from a client's text."""
    return f"<|answer:{nonce}{name}|>"


def _places(nonce: str) -> re.Pattern[str]:
    return re.compile(rf"<\|answer:{re.escape(nonce)}({AGENT_NAME})\|>")


PLACEHOLDER = _places("")


@dataclass(frozen=True)
class PromptTemplate:
    """`literals[0] + answer of slots[0] + literals[1] + ... + literals[-1]`.

    Attributes:
        literals: Token ids between the places, one piece more than there are places; may be empty.
        slots: The names whose answers belong there.
    """

    literals: tuple[tuple[int, ...], ...]
    slots: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.literals) == len(self.slots) + 1

    @classmethod
    async def of_messages(
        cls, tokenizer: WorkerTokenizer, messages: list[dict[str, Any]], nonce: str = ""
    ) -> "PromptTemplate":
        """The model's own chat template over messages that contain places.

        Raises:
            BadRequest: The chat template changed a place, or the messages do not fit it.
        """
        wanted = [name for message in messages for name in _places(nonce).findall(str(message.get("content", "")))]
        text = await tokenizer.decode(await tokenizer.render(messages))
        template = await cls.of_text(tokenizer, text, nonce)
        if sorted(template.slots) != sorted(wanted):
            raise BadRequest("the model's chat template does not keep <|answer:NAME|>; use `text` or `input_ids`.")
        return template

    @classmethod
    async def of_text(cls, tokenizer: WorkerTokenizer, text: str, nonce: str = "") -> "PromptTemplate":
        """Plain text that contains places; special tokens are not added."""
        *parts, last = _places(nonce).split(text)
        pieces = await tokenizer.encode_all([*parts[::2], last])
        return cls(tuple(map(tuple, pieces)), tuple(parts[1::2]))

    @classmethod
    def of_ids(cls, items: Iterable[int | str]) -> "PromptTemplate":
        """Token ids with places as strings among them.

        Raises:
            BadRequest: An item is neither a token id nor a place.
        """
        literals: list[list[int]] = [[]]
        slots = []
        for item in items:
            found = _places("").fullmatch(item) if isinstance(item, str) else None
            if found is not None:
                slots.append(found[1])
                literals.append([])
            elif type(item) is int and item >= 0:
                literals[-1].append(item)
            else:
                raise BadRequest(f"`input_ids` holds {item!r}; give token ids and places like '<|answer:NAME|>'.")
        return cls(tuple(map(tuple, literals)), tuple(slots))
