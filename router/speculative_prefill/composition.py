"""A template's token ids in the order in which they become known."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.token_ids import common_prefix
from router.speculative_prefill.tokenizer import WorkerTokenizer
from router.speculative_prefill.upstream_answer import UpstreamAnswer, wait_for_change

AnswerOrder = Literal["completion", "declared"]
AnswerEncoder = Callable[[UpstreamAnswer], Awaitable[Sequence[int]]]


@dataclass(frozen=True)
class Truncate:
    """Everything from token `length` on does not hold any more."""

    length: int


async def same_tokenizer_ids(answer: UpstreamAnswer) -> Sequence[int]:
    """An answer of a model with the reader's tokenizer: its ids go through as they are."""
    return answer.ids


def ids_unless_cut(tokenizer: WorkerTokenizer) -> AnswerEncoder:
    """As `same_tokenizer_ids`; but an answer that a stop string cut has more ids than text, and only its text counts."""

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        return await tokenizer.encode(answer.text) if answer.cut else answer.ids

    return encode


def reencoded_text(tokenizer: WorkerTokenizer) -> AnswerEncoder:
    """For an answer of another tokenizer: its text under the reader's.

    While it runs its last word is held back, since more letters may follow; what a tokenizer then
    still changes in hindsight, `compose` takes back.
    """

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        text = answer.text if answer.done else _whole_words(answer.text)
        return await tokenizer.encode(text)

    return encode


async def compose_prompt(
    template: PromptTemplate, answers: Mapping[str, UpstreamAnswer], order: AnswerOrder, encode: AnswerEncoder
) -> AsyncGenerator[Sequence[int] | Truncate]:
    """Token ids to append, and now and then a `Truncate`; ends when the whole prompt is known.

    An answer that is dropped leaves no trace: what stands between it and the one before goes too.

    Args:
        template: The prompt.
        answers: By name, at least those of the template.
        order: `declared` puts each answer into its own place, streaming the one whose turn it is.
            `completion` fills the places in the order in which answers end, and streams an answer
            only when it is the last one left.
        encode: What is known of an answer, as ids of the reader's tokenizer.

    Raises:
        Exception: What an answer failed with.
    """
    first, *between, last = template.literals if template.slots else (*template.literals, ())
    if first:
        yield first
    position = len(first)
    everyone = [answers[name] for name in template.slots]
    left = everyone.copy()
    separators = [(), *between]  # before each answer
    kept = 0
    while left:
        answer = left[0] if order == "declared" else await _next_ended(left, everyone)
        left.remove(answer)
        sent: list[int] = []
        while True:
            seen, version, done = _seen(everyone), answer.version, answer.done
            ids = [] if answer.dropped else [*separators[kept], *await encode(answer)]
            common = common_prefix(sent, ids)
            if common < len(sent):
                yield Truncate(position + common)
            if common < len(ids):
                yield ids[common:]
            sent = ids
            if done:
                break
            while answer.version == version:
                await wait_for_change(everyone, since=seen)
                seen = _seen(everyone)
        kept += not answer.dropped
        position += len(sent)
    if last:
        yield last


async def _next_ended(left: list[UpstreamAnswer], everyone: list[UpstreamAnswer]) -> UpstreamAnswer:
    """The answer that ended first of those left; the last one left at once."""
    while len(left) > 1:
        seen = _seen(everyone)
        ended = [(answer.finished, answer) for answer in left if answer.finished is not None]
        if ended:
            return min(ended, key=lambda pair: pair[0])[1]
        await wait_for_change(everyone, since=seen)
    return left[0]


def _seen(everyone: list[UpstreamAnswer]) -> int:
    """What `changed` takes; raises what any of them failed with: a prompt that cannot be whole is not waited for."""
    for answer in everyone:
        if answer.error is not None:
            raise answer.error
    return sum(answer.version for answer in everyone)


def _whole_words(text: str) -> str:
    """The text without its last word and the space before it."""
    return text[: max(text.rfind(" "), text.rfind("\n"), 0)]
