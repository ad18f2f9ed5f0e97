"""Servers in a thread of their own, for clients that block."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import uvloop

from tests.router.support.fakes import FakePair
from tests.router.support.serving import Serving, serving

T = TypeVar("T")


@contextmanager
def in_thread(context: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What an async context manager yields in a thread; use only what of it needs no event loop."""
    begun: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with context() as value:
            over = asyncio.Event()
            begun.set_result((value, asyncio.get_running_loop(), over))
            await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run)
        either: list[Future[Any]] = [begun, ended]
        wait(either, return_when=FIRST_COMPLETED)
        if ended.done():
            ended.result()
        value, loop, over = begun.result()
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(over.set)
            ended.result(300)


@contextmanager
def threaded(*pairs: FakePair, **settings: Any) -> Iterator[Serving]:
    """A router over fake pairs; in the end nothing may be left on these."""

    @asynccontextmanager
    async def context() -> AsyncIterator[Serving]:
        async with serving(*pairs, **settings) as client:
            yield client
            await client.freed()

    with in_thread(context) as client:
        yield client
