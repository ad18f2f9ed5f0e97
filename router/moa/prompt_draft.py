"""A prompt with placeholders for upstream answers, before tokenization."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from router.errors import BadRequest
from router.moa.messages import Messages
from router.speculative_prefill.template import PromptTemplate, placeholder
from router.speculative_prefill.template_cache import TemplateCache
from router.speculative_prefill.tokenizer import WorkerTokenizer

Content = Messages | str | list[int | str]


@dataclass(frozen=True)
class PromptDraft:
    """An agent's prompt as a function of the answers it reads.

    Attributes:
        upstream_names: The agents whose answers it reads, in the order of their placeholders.
        fill: Makes the prompt from one text for each of them, an answer or a placeholder: chat messages, plain text,
            or token ids with strings among them.
        template_options: Fields for the model's chat template, by the names of SGLang's chat API.
        nonce: Marks this draft's own placeholders, so that a client's text cannot contain one.
    """

    upstream_names: tuple[str, ...]
    fill: Callable[[Sequence[str]], Content]
    nonce: str = ""
    template_options: Mapping[str, Any] = field(default_factory=dict)

    def with_placeholders(self) -> Content:
        """The prompt with its placeholders."""
        return self.fill(self._placeholders())

    @property
    def is_token_ids(self) -> bool:
        """Whether it is made of token ids, so that no tokenizer is needed."""
        content = self.with_placeholders()
        return isinstance(content, list) and not isinstance(content[0], dict)

    async def template(self, tokenizer: Callable[[], WorkerTokenizer], templates: TemplateCache) -> PromptTemplate:
        """The prompt as token ids of one model; raises what `PromptTemplate` does.

        The router's own placeholders are numbered while it is made, so that drafts which differ only in whose answers
        they read share one.
        """
        numbers = {str(number): name for number, name in enumerate(self.upstream_names)} if self.nonce else {}
        content = self.fill([placeholder(number, self.nonce) for number in numbers] or self._placeholders())
        messages = [item for item in content if isinstance(item, dict)]
        if not isinstance(content, str) and not messages:
            return PromptTemplate.of_ids(item for item in content if not isinstance(item, dict))
        encoder = tokenizer()
        # Without the nonce, a placeholder in a client's text would be a slot to some and text to others.
        depends_on = [encoder.identity, self.nonce, content, self.template_options]
        key = blake2b(orjson.dumps(depends_on), digest_size=16).digest()

        async def make() -> PromptTemplate:
            if isinstance(content, str):
                return await PromptTemplate.of_text(encoder, content, self.nonce)
            return await PromptTemplate.of_messages(encoder, messages, self.nonce, self.template_options)

        template = await templates.get(key, make)
        return template.with_slots(numbers) if numbers else template

    def _placeholders(self) -> list[str]:
        return [placeholder(name, self.nonce) for name in self.upstream_names]

    def with_answers(self, answers: Sequence[str]) -> Messages | str:
        """The prompt with answers instead of its placeholders, for servers that take text only.

        Raises:
            BadRequest: The draft is made of token ids.
        """
        if self.is_token_ids:
            raise BadRequest("an OpenAI-compatible server cannot read answers into token ids; give messages or text.")
        content = self.fill(answers)
        return content if isinstance(content, str) else [item for item in content if isinstance(item, dict)]
