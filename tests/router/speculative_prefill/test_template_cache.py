"""Templates that several agents ask for."""

import asyncio

import pytest

from router.errors import UpstreamTimeout
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.template_cache import TemplateCache
from tests.router.support.aio import aio, within


def template_of(tokens: int) -> PromptTemplate:
    return PromptTemplate((tuple(range(tokens)),), ())


class Maker:
    """Makes a template of nine tokens when it may, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_go_on = asyncio.Event()
        self.times = self.ended = 0
        self.error = error

    async def __call__(self) -> PromptTemplate:
        self.times += 1
        try:
            await self.may_go_on.wait()
        finally:
            self.ended += 1
        if self.error is not None:
            raise self.error
        return template_of(9)


async def started(cache: TemplateCache, make: Maker, count: int) -> list[asyncio.Task[PromptTemplate]]:
    tasks = [asyncio.create_task(cache.get(b"key", make)) for _ in range(count)]
    for _ in range(2):  # until they wait, and until it is being made
        await asyncio.sleep(0)
    return tasks


@aio
async def test_those_who_ask_at_once_share_one() -> None:
    cache, make = TemplateCache(), Maker()
    tasks = await started(cache, make, 5)
    make.may_go_on.set()
    assert {id(each) for each in await within(5, asyncio.gather(*tasks))} == {id(await tasks[0])}
    assert make.times == 1
    assert await cache.get(b"key", make) is await tasks[0]
    assert await cache.get(b"other", make) is not await tasks[0]
    assert make.times == 2


@aio
async def test_an_error_is_told_to_all_who_wait_and_not_kept() -> None:
    cache, make = TemplateCache(), Maker(UpstreamTimeout("no answer"))
    tasks = await started(cache, make, 3)
    make.may_go_on.set()
    errors = await within(5, asyncio.gather(*tasks, return_exceptions=True))
    assert [str(error) for error in errors] == ["no answer"] * 3
    assert len({id(error) for error in errors}) == 3
    make.error = None
    assert await cache.get(b"key", make) == template_of(9)
    assert make.times == 2


@aio
async def test_an_error_that_nobody_expected_is_told_too() -> None:
    cache, make = TemplateCache(), Maker(ZeroDivisionError())
    tasks = await started(cache, make, 3)
    make.may_go_on.set()
    errors = await within(5, asyncio.gather(*tasks, return_exceptions=True))
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3
    assert make.times == 1


@pytest.mark.parametrize("leaves", [0, 1])
@aio
async def test_one_that_leaves_cancels_no_other(leaves: int) -> None:
    """Also the one that was first."""
    cache, make = TemplateCache(), Maker()
    tasks = await started(cache, make, 3)
    tasks.pop(leaves).cancel()
    await asyncio.sleep(0)
    make.may_go_on.set()
    assert await within(5, asyncio.gather(*tasks)) == [template_of(9)] * 2
    assert make.times == 1


@aio
async def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    cache, make = TemplateCache(), Maker()
    tasks = await started(cache, make, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert make.times == 1
    again = await started(cache, make, 1)
    await asyncio.sleep(0)
    assert make.times == 2, "the next one begins anew"
    assert make.ended == 1
    make.may_go_on.set()
    assert await within(5, again[0]) == template_of(9)


@aio
async def test_what_is_kept_is_bounded() -> None:
    now = 0.0
    cache = TemplateCache(max_tokens=30, max_seconds=60, clock=lambda: now)
    made: list[bytes] = []

    async def get(key: bytes, tokens: int = 9) -> None:
        async def make() -> PromptTemplate:
            made.append(key)
            return template_of(tokens)

        await cache.get(key, make)

    for key in (b"a", b"b", b"c", b"a", b"d", b"b"):  # each has nine tokens and a literal; b is the oldest
        await get(key)
    assert made == [b"a", b"b", b"c", b"d", b"b"]
    await get(b"too large", 30)
    await get(b"too large", 30)
    assert made[-2:] == [b"too large"] * 2
    now = 60.5
    await get(b"b")
    assert made[-1] == b"b"
