"""The router of `serving` in a thread of its own, for clients that block."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import uvloop

from tests.router.fakes import FakePair
from tests.router.serving import Serving, serving


@contextmanager
def threaded(*pairs: FakePair, **settings: Any) -> Iterator[Serving]:
    """A router over fake pairs; of what this yields, use only what needs no event loop. In the end nothing is left."""
    begun: Future[tuple[Serving, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with serving(*pairs, **settings) as client:
            over = asyncio.Event()
            begun.set_result((client, asyncio.get_running_loop(), over))
            await over.wait()
            await client.freed()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run)
        either: list[Future[Any]] = [begun, ended]
        wait(either, return_when=FIRST_COMPLETED)
        if ended.done():
            ended.result()
        client, loop, over = begun.result()
        try:
            yield client
        finally:
            loop.call_soon_threadsafe(over.set)
            ended.result(20)
