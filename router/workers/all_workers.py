"""One request to each of several workers at once, a few at a time, and what became of each."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.errors import RouterError
from router.workers.worker import Worker

T = TypeVar("T")
AT_ONCE = 16  # workers asked at the same time


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of a request to a worker.

    Attributes:
        worker: The worker.
        value: What it gave; None if it failed.
        problem: One sentence on why it failed; None if it did not.
    """

    worker: Worker
    value: T | None = None
    problem: str | None = None


async def ask_all(workers: Sequence[Worker], ask: Callable[[Worker], Awaitable[T]]) -> list[Outcome[T]]:
    """Ask workers, each address once; `ask` raises `RouterError` where a worker fails.

    Returns:
        The outcomes, in the workers' order.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def ask_one(worker: Worker) -> Outcome[T]:
        async with places:
            try:
                return Outcome(worker, await ask(worker))
            except RouterError as error:
                return Outcome(worker, problem=str(error))

    by_address = {worker.url: worker for worker in workers}
    return await asyncio.gather(*(ask_one(worker) for worker in by_address.values()))
