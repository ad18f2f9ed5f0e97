"""Several answers at once, as one stream."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from router.errors import RouterError

T = TypeVar("T")
BUFFERED_ITEMS = 8  # pieces that wait for a slow client before the servers do


async def merge_streams(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Items of all streams as they come, each with its stream's number; closes all at the end.

    Raises what the first one to fail raises.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    items: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue(BUFFERED_ITEMS)

    async def pump(number: int) -> None:
        async with aclosing(streams[number]) as stream:
            async for item in stream:
                await items.put((number, item))

    async def pump_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(streams)):
                    group.create_task(pump(number))
        except asyncio.CancelledError:  # nobody reads any more
            raise
        except BaseException:
            await items.put(None)
            raise
        await items.put(None)

    pumping = asyncio.create_task(pump_all())
    try:
        while (found := await items.get()) is not None:
            yield found
        try:
            await pumping
        except* RouterError as errors:
            raise errors.exceptions[0] from None
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
