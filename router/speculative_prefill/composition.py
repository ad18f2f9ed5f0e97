"""Composes a prompt: the token ids of a template, in the order in which its answers become known."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from router.errors import BadRequest, UpstreamFailed
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.token_ids import common_prefix
from router.speculative_prefill.tokenizer import WorkerTokenizer
from router.speculative_prefill.upstream_answer import AnswerWatch, UpstreamAnswer

AnswerOrder = Literal["completion", "declared"]
HEAD_START_SECONDS = 0.5  # of upstream prompts
SLOTS_AT_ONCE = 64  # filled before the event loop does other work
AnswerEncoder = Callable[[UpstreamAnswer], Awaitable[Sequence[int]]]  # what is known of an answer -> reader's token ids


@dataclass(frozen=True)
class Truncate:
    """The prompt's tokens from `length` on are no longer valid."""

    length: int


async def same_tokenizer_ids(answer: UpstreamAnswer) -> Sequence[int]:
    """For answers of a model with the reader's tokenizer: their ids as they are."""
    return answer.ids


def ids_unless_cut(tokenizer: WorkerTokenizer) -> AnswerEncoder:
    """As `same_tokenizer_ids`; but of an answer cut by a stop string, whose ids go beyond its text, the text's ids.

    An answer of which only the text is known is encoded as by `reencoded_text`.
    """
    by_text = reencoded_text(tokenizer)

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        if answer.text_only:
            return await by_text(answer)
        return await tokenizer.encode(answer.text) if answer.cut else answer.ids

    return encode


def reencoded_text(tokenizer: WorkerTokenizer) -> AnswerEncoder:
    """For answers of another tokenizer: their text under the reader's.

    The last word of an unfinished answer is held back, since more letters may follow. Where the tokenizer still
    changes earlier ids, `compose_prompt` truncates.
    """

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        text = answer.text if answer.done else _without_last_word(answer.text)
        return await tokenizer.encode(text)

    return encode


def ids_if_they_decode_to_text(tokenizer: WorkerTokenizer) -> AnswerEncoder:
    """For answers of a tokenizer that may be the reader's: their ids if its tokenizer decodes them to the text.

    A server is asked for that once the answer has ended. Until then the ids are only prefilled ahead; where they decode
    to something else, the text's ids replace them.
    """
    by_text = reencoded_text(tokenizer)

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        if answer.text_only or answer.cut or not answer.ids:
            return await by_text(answer)
        if not answer.done or await _decodes_to(tokenizer, answer.ids, answer.text):
            return answer.ids
        return await by_text(answer)

    return encode


async def compose_prompt(
    template: PromptTemplate, answers: Mapping[str, UpstreamAnswer], order: AnswerOrder, encode: AnswerEncoder
) -> AsyncGenerator[Sequence[int] | Truncate]:
    """Token ids to append, and now and then a `Truncate`; ends when the prompt is complete.

    A dropped answer is left out, with the literal between it and the answer before. The prompt begins when one of its
    answers does, or half a second later. Before that the prompts of the answers' agents are usually being prefilled,
    and unlike this one they hold up the run.

    Args:
        template: The prompt.
        answers: By name, at least those of the template.
        order: `declared` puts each answer into its own slot, and streams the one that comes next.
            `completion` fills the slots in the order in which answers finish, and streams an answer
            only when it is the last one.
        encode: Gives the reader's token ids of what is known of an answer.

    Raises:
        Exception: The error of an answer that failed.
    """
    first, *between, last = template.literals if template.slots else (*template.literals, ())
    position = len(first)
    slots = [answers[name] for name in template.slots]
    separators = [(), *between]  # before each answer
    unplaced = Counter(slots)  # slots that each answer has yet to fill
    final_ids: dict[UpstreamAnswer, Sequence[int]] = {}  # an answer that fills many slots is encoded once
    kept = 0
    with AnswerWatch(slots) as watch:
        await _begun(watch)
        if first:
            yield first
        for index, slot in enumerate(slots):
            if index % SLOTS_AT_ONCE == SLOTS_AT_ONCE - 1:
                await asyncio.sleep(0)
            answer = slot if order == "declared" else await _next_finished(unplaced, watch)
            sent: list[int] = []
            while True:
                watch.check()
                version, done = answer.version, answer.done
                ids: list[int] = []
                if not answer.dropped:
                    known = final_ids[answer] if answer in final_ids else await encode(answer)
                    ids = [*separators[kept], *known]
                    if done:
                        final_ids[answer] = known
                common = common_prefix(sent, ids)
                if common < len(sent):
                    yield Truncate(position + common)
                if common < len(ids):
                    yield ids[common:]
                sent = ids
                if done:
                    break
                while answer.version == version:
                    await watch.changed()
            kept += not answer.dropped
            position += len(sent)
    if last:
        yield last


async def _begun(watch: AnswerWatch) -> None:
    """Wait until one of the answers has begun, but not for long: some come whole, and some only after others."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEAD_START_SECONDS):
            while watch.answers and not any(answer.version for answer in watch.answers):
                await watch.changed()


async def _next_finished(unplaced: Counter[UpstreamAnswer], watch: AnswerWatch) -> UpstreamAnswer:
    """Of the answers that have slots left, the one that finished first; the only slot left is filled at once."""
    if len(unplaced) == 1 and unplaced.total() == 1:
        return next(iter(unplaced))
    watch.check()
    while not watch.finished:
        await watch.changed()
    answer = watch.finished[0]
    unplaced[answer] -= 1
    if not unplaced[answer]:
        del unplaced[answer]
        watch.finished.popleft()
    return answer


async def _decodes_to(tokenizer: WorkerTokenizer, ids: Sequence[int], text: str) -> bool:
    try:
        return await tokenizer.decode([*ids]) == text
    except (BadRequest, UpstreamFailed):  # some tokenizers fail at ids that they do not have
        return False


def _without_last_word(text: str) -> str:
    """The text without its last word and the space before it."""
    return text[: max(text.rfind(" "), text.rfind("\n"), 0)]
