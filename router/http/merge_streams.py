"""Merges several streams into one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from router.errors import RouterError

T = TypeVar("T")
BUFFERED_ITEMS = 8  # items that wait for a slow client before the servers do


async def merge_streams(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield the items of all streams as they come, each with its stream's index; close all at the end.

    Raises the error of the first stream that fails.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    items: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue(BUFFERED_ITEMS)  # None: nothing more comes

    async def pump(index: int) -> None:
        async with aclosing(streams[index]) as stream:
            async for item in stream:
                await items.put((index, item))

    async def pump_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(len(streams)):
                    group.create_task(pump(index))
        except asyncio.CancelledError:  # the reader has left
            raise
        except BaseException:
            await items.put(None)
            raise
        await items.put(None)

    pumping = asyncio.create_task(pump_all())
    try:
        while (entry := await items.get()) is not None:
            yield entry
        try:
            await pumping
        except* RouterError as errors:
            raise errors.exceptions[0] from None
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
