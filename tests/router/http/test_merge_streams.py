"""Several streams merged into one."""

import asyncio
from typing import Any

import orjson

from router.http.merge_streams import merge_streams
from tests.router.support.aio import aio, within


@aio
async def test_merging() -> None:
    async def count(to: int) -> Any:
        for number in range(to):
            await asyncio.sleep(0)
            yield number

    assert [item async for item in merge_streams([count(3)])] == [(0, 0), (0, 1), (0, 2)]
    merged = [item async for item in merge_streams([count(30), count(2)])]
    assert sorted(merged) == [(0, number) for number in range(30)] + [(1, 0), (1, 1)]


@aio
async def test_a_merge_that_is_left_ends_its_streams() -> None:
    ended = []

    async def endless(name: str) -> Any:
        try:
            while True:
                await asyncio.sleep(0)
                yield orjson.dumps(name)
        finally:
            ended.append(name)

    merged = merge_streams([endless("a"), endless("b")])
    async for _ in merged:
        break
    await within(2.0, merged.aclose())
    assert sorted(ended) == ["a", "b"]
