"""Running coroutines as tests: a time limit for each, and nothing may be left running."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

import uvloop

SLOW = 10  # times slower than usual, a machine fails no test: waits say how long they may usually take
LIMIT = 15.0  # seconds; every test ends far earlier unless something hangs

P = ParamSpec("P")


def run(work: Callable[[], Coroutine[Any, Any, None]], *, loop: str = "uvloop") -> None:
    """Run a coroutine; fails when it takes too long or leaves tasks behind."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_limited(work))


def aio(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async function as a plain test, on the loop that the router runs on."""

    @functools.wraps(test)
    def plain(*args: P.args, **kwargs: P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return plain


async def _limited(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.timeout(SLOW * LIMIT):
        await work()
    await until(lambda: len(asyncio.all_tasks()) == 1, "every task has ended")


async def until(holds: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Wait until a condition holds; fails naming it."""
    deadline = asyncio.get_running_loop().time() + SLOW * seconds
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {SLOW * seconds:g} s: {what}; tasks: {asyncio.all_tasks()}")
        await asyncio.sleep(0.002)


async def within(seconds: float, work: Awaitable[Any]) -> Any:
    """The result of `work`, which must not take longer on a usual machine."""
    async with asyncio.timeout(SLOW * seconds):
        return await work
