"""Prompts with thousands of places: the work grows with the places, and the event loop turns meanwhile."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from router.errors import UpstreamFailed
from router.speculative_prefill.composition import AnswerOrder, Truncate, compose_prompt
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.upstream_answer import AnswerWatch, UpstreamAnswer
from tests.router.support.aio import aio, run

PLACES = 2000


class Counting(UpstreamAnswer):
    """Counts how often it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("version", "done", "error", "finish_order"):
            type(self).looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("order", ["declared", "completion"])
@pytest.mark.parametrize("names", [1, 40, PLACES])
def test_each_place_costs_the_same(order: AnswerOrder, names: int) -> None:
    slots = tuple(f"a{index % names}" for index in range(PLACES))
    template = PromptTemplate(((), *((index,) for index in range(PLACES))), slots)
    answers = {name: Counting(name) for name in slots}
    encoded: list[str] = []
    turns = 0

    async def encode(answer: UpstreamAnswer) -> Sequence[int]:
        encoded.append(answer.name)
        return answer.ids

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def test() -> None:
        for index, answer in enumerate(answers.values()):
            answer.update([10_000 + index])
            answer.finish()
        Counting.looks = 0
        ticking = asyncio.create_task(tick())
        ids: list[int] = []
        async for part in compose_prompt(template, answers, order, encode):
            assert not isinstance(part, Truncate)
            ids.extend(part)
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        assert len(ids) == 2 * PLACES
        assert sorted(encoded) == sorted(answers), "each answer is encoded once"
        assert Counting.looks < 30 * PLACES
        assert turns > PLACES / 100

    run(test)


@aio
async def test_whole_answers_of_many_are_awaited_at_the_price_of_their_changes() -> None:
    answers = [Counting(f"a{index}") for index in range(PLACES)]
    with AnswerWatch(answers) as watch:
        waiting = asyncio.create_task(watch.all_finished())
        await asyncio.sleep(0)
        Counting.looks = 0
        for answer in answers:
            answer.finish()
            await asyncio.sleep(0)
        await waiting
        assert Counting.looks < 30 * PLACES
        assert [*watch.finished] == answers
    assert not any(answer.watches for answer in answers)


@aio
async def test_a_failed_answer_ends_the_wait() -> None:
    good, bad = UpstreamAnswer("good"), UpstreamAnswer("bad")
    with AnswerWatch([good, bad]) as watch:
        waiting = asyncio.create_task(watch.all_finished())
        await asyncio.sleep(0)
        bad.fail(UpstreamFailed("agent bad failed."))
        with pytest.raises(UpstreamFailed, match="agent bad failed"):
            await waiting
    with AnswerWatch([good, bad]) as late, pytest.raises(UpstreamFailed):
        await late.all_finished()
