"""A prompt with places for answers, before any tokenizer has seen it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from router.errors import BadRequest
from router.speculative_prefill.template import PromptTemplate, placeholder
from router.speculative_prefill.tokenizer import WorkerTokenizer

Messages = list[dict[str, Any]]
Content = Messages | str | list[int | str]


@dataclass(frozen=True)
class PromptDraft:
    """What an agent is asked, given the answers it reads.

    Attributes:
        names: Whose answers it reads, in the order of their places.
        write: Puts texts, or places, where the answers belong: chat messages, plain text, or token ids with
            places among them.
        nonce: What marks this draft's own places, so that a client's text cannot be taken for one.
    """

    names: tuple[str, ...]
    write: Callable[[Sequence[str]], Content]
    nonce: str = ""

    def content(self) -> Content:
        """The draft with its places."""
        return self.write([placeholder(name, self.nonce) for name in self.names])

    @property
    def is_ids(self) -> bool:
        """Whether it is made of token ids, so that no tokenizer is needed."""
        content = self.content()
        return isinstance(content, list) and not isinstance(content[0], dict)

    async def template(self, tokenizer: Callable[[], WorkerTokenizer]) -> PromptTemplate:
        """The draft as token ids of one model; raises what `PromptTemplate` does."""
        content = self.content()
        if isinstance(content, str):
            return await PromptTemplate.of_text(tokenizer(), content, self.nonce)
        messages = [item for item in content if isinstance(item, dict)]
        if messages:
            return await PromptTemplate.of_messages(tokenizer(), messages, self.nonce)
        return PromptTemplate.of_ids(item for item in content if not isinstance(item, dict))

    def filled(self, texts: Sequence[str]) -> Messages | str:
        """The draft with answers for its places, for servers that take text only.

        Raises:
            BadRequest: The draft is made of token ids.
        """
        if self.is_ids:
            raise BadRequest("an OpenAI-compatible server cannot read answers into token ids; give messages or text.")
        content = self.write(texts)
        return content if isinstance(content, str) else [item for item in content if isinstance(item, dict)]
